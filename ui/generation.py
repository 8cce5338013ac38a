"""Writing for visitors: requests are checked, and text comes in a few steps per second.

Components on the page protect nothing: every handler can be called with any JSON. So values are
taken as objects and checked here, for the page and the endpoints alike, against `Sampling`, the
list of models, and the limits that keep one visitor from tying up the machine for long.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import gradio as gr

from gpt2.errors import UserError
from gpt2.generate import MAX_PROMPT_BYTES, Piece
from gpt2.sampling import Sampling, resolve_seed
from gpt2.settings import settings_of
from service import zero_gpu
from service.stream import Stream
from ui.client import client_of, streams_of
from ui.messages import log
from ui.models import Choice, Loaded, Models

WORKER = "generate"  # the page and the endpoints share one queue
AT_ONCE = 64  # requests that the queue hands on; an engine writes 32 texts and has the others wait
SETTINGS = settings_of(Sampling)
_SECONDS_BETWEEN_STEPS = 0.13  # 7 to 8 updates per second


@dataclass(frozen=True)
class WriteRequest:
    """What to continue, with which model, and how. The seed is resolved."""

    choice: Choice
    prompt: str  # the model's default one where none was given
    sampling: Sampling
    begun: str = ""  # that default prompt: no part of what was asked, so part of the answer


@dataclass(frozen=True)
class Step:
    """`prompt + kept` was given to the model, which wrote `texts` (one per sample)."""

    prompt: str
    kept: str = ""  # written by the model in earlier steps, in the sample that was continued
    texts: tuple[str, ...] = ("",)
    tokens: int = 0  # of all samples
    seconds: float = 0.0
    seed: int = 0
    endings: tuple[str | None, ...] = ()  # why each sample stopped

    @property
    def basis(self) -> str:
        return self.prompt + self.kept

    def summary(self, stopped: bool = False) -> str:
        """ "87 tokens, 41 tok/s, seed 1234, stopped: end of text" """
        speed = self.tokens / self.seconds if self.seconds else 0.0
        words = [f"{self.tokens:,} token{'' if self.tokens == 1 else 's'}"]
        words.append(f"{speed:.0f} tok/s" if speed >= 10 else f"{speed:.1f} tok/s")
        words.append(f"seed {self.seed}")
        if stopped:
            words.append("stopped: by you")
        elif self.endings and all(self.endings):
            words.append("stopped: " + ", ".join(dict.fromkeys(self.endings)))
        return ", ".join(words)


def parse_request(
    models: Models, prompt: object, model: object, **settings: object
) -> WriteRequest:
    """`settings` are fields of `Sampling`. `UserError` names the first bad value."""
    choice = models.find(model)
    settings["seed"] = resolve_seed(settings.get("seed", -1))
    sampling = Sampling(**settings)
    for one in SETTINGS:
        one.within_offer().parse(getattr(sampling, one.name))
    begun = "" if check_prompt(prompt) else models.default_prompt(choice)
    return WriteRequest(choice, prompt or begun, sampling, begun)


def check_prompt(prompt: object) -> str:
    """The prompt, if it is text of a reasonable length; the tokenizer checks its characters."""
    if type(prompt) is not str:
        raise UserError("The prompt must be a text.")
    if len(prompt) > MAX_PROMPT_BYTES:
        raise UserError(
            f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT_BYTES:,} are read. "
            "The model sees only its last tokens: send the end of your text."
        )
    return prompt


@dataclass(frozen=True)
class Reader:
    """For whom something is written: an address, with whose others it takes turns, and a session,
    which may find its own prompts again. `streams` are noted for `ui.turns`, which ends them when
    the request ends, in whatever way."""

    client: str | None = None
    session: str | None = None
    streams: list[Stream] = field(default_factory=list)

    @classmethod
    def of(cls, request: gr.Request, session: str | None = None) -> Reader:
        return cls(client_of(request), session, streams_of(request.request))


def stream_step(loaded: Loaded, step: Step, sampling: Sampling, reader: Reader) -> Iterator[Step]:
    """`step` as it grows; the last one has an ending for every sample.

    It is written together with what others ask of the model, in turns between visitors. A caller
    who closes or drops the iterator has ended the computation.
    """
    texts = [""] * sampling.samples
    counts = [0] * sampling.samples
    endings: list[str | None] = [None] * sampling.samples
    started = time.perf_counter()

    def snapshot() -> Step:
        return replace(
            step,
            texts=tuple(texts),
            tokens=sum(counts),
            seconds=time.perf_counter() - started,
            seed=sampling.seed,
            endings=tuple(endings),
        )

    for pieces in _batches(loaded, step.basis, sampling, reader):
        for piece in pieces:
            texts[piece.sample] += piece.text
            counts[piece.sample] = piece.tokens
            endings[piece.sample] = piece.stop_reason
        yield snapshot()


def _batches(
    loaded: Loaded, prompt: str, sampling: Sampling, reader: Reader
) -> Iterator[list[Piece]]:
    """What is written, as often as it is to be sent. On ZeroGPU a large model's text comes from a
    GPU; a visitor who gets none is served by the CPU, like anybody elsewhere."""
    if zero_gpu.pays_off(loaded.model.parameter_count()):
        begun = False
        try:
            with zero_gpu.explaining_refusals():
                for pieces in zero_gpu.write_on_gpu(loaded.choice.source, prompt, sampling):
                    begun = True
                    yield pieces
            return
        except UserError as error:
            if begun:
                raise
            log.info("written on the CPU: %s", error)
    yield from _engine_batches(loaded, prompt, sampling, reader)


def _engine_batches(
    loaded: Loaded, prompt: str, sampling: Sampling, reader: Reader
) -> Iterator[list[Piece]]:
    pause = 0.0  # so the first token shows at once
    with loaded.engine.submit(prompt, sampling, reader.client, reader.session) as stream:
        reader.streams.append(stream)
        while pieces := stream.take(pause):
            yield pieces
            # Sending a step takes as long as writing several tokens: with many readers, fewer.
            pause = _SECONDS_BETWEEN_STEPS * min(2.0, max(1.0, loaded.engine.rows_in_use / 16))
