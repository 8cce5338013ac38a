"""The public endpoint /generate: the Write tab for programs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import gradio as gr

from gpt2.errors import UserError
from ui.generation import parse_request
from ui.models import Models
from ui.streams import stream_step
from ui.write.history import Step

WORKER = "generate"  # the page and the API wait in one queue for the same worker
BROKEN = "Something went wrong here. It is not your input; the server's log has the cause."
log = logging.getLogger(__name__)


def add_api(models: Models, default_model: str) -> None:
    """Declare the endpoint inside the open `gr.Blocks`."""

    def generate(
        prompt: str,
        model: str = default_model,
        max_new_tokens: int = 100,
        temperature: float = 0.8,
        top_k: int = 40,
        top_p: float = 0.95,
        repetition_penalty: float = 1.1,
        seed: int = -1,
        stop: str = "",
        stop_at_end_of_text: bool = True,
    ) -> Iterator[str]:
        """Continue `prompt`. Streams the continuation so far; the last value is all of it."""
        try:
            request = parse_request(
                models,
                prompt,
                model,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                repetition_penalty=repetition_penalty,
                seed=seed,
                stop=stop,
                stop_at_end_of_text=stop_at_end_of_text,
            )
            loaded = models.load(request.choice.name)
            for step in stream_step(loaded, Step(request.prompt), request.sampling):
                yield step.texts[0]
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except Exception:
            log.exception("generation failed")
            raise gr.Error(BROKEN, print_exception=False) from None

    gr.api(generate, api_name="generate", concurrency_id=WORKER, concurrency_limit=1)
