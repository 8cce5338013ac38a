"""From whatever a visitor sent to a checked request. The page and the API both come through here.

Components on the page do not protect anything: every handler can be called with any JSON. So the
values are taken as objects and judged by `Sampling`, by the list of models, and by two limits that
keep one visitor from holding the only worker for long.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpt2.errors import UserError
from gpt2.generate import MAX_PROMPT_BYTES
from gpt2.sampling import Sampling, resolve_seed
from ui.models import Choice, Models

MAX_NEW_TOKENS = 1000
MAX_SAMPLES = 4


@dataclass(frozen=True)
class WriteRequest:
    """What to continue, with which model, and how. The seed is resolved."""

    choice: Choice
    prompt: str
    sampling: Sampling


def parse_request(
    models: Models, prompt: object, model: object, **settings: object
) -> WriteRequest:
    """`settings` are fields of `Sampling`. `UserError` names the first bad value."""
    choice = models.find(model)
    settings["seed"] = resolve_seed(settings.get("seed", -1))
    sampling = Sampling(**settings)
    if sampling.max_new_tokens > MAX_NEW_TOKENS:
        raise UserError(
            f"max_new_tokens must be at most {MAX_NEW_TOKENS} here, not {sampling.max_new_tokens}. "
            "Continue from what you got for more."
        )
    if sampling.samples > MAX_SAMPLES:
        raise UserError(f"samples must be at most {MAX_SAMPLES} here, not {sampling.samples}.")
    return WriteRequest(choice, check_prompt(prompt), sampling)


def check_prompt(prompt: object) -> str:
    """The prompt if it is a text of bearable length; its characters are the tokenizer's affair."""
    if type(prompt) is not str:
        raise UserError("The prompt must be a text.")
    if len(prompt) > MAX_PROMPT_BYTES:
        raise UserError(
            f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT_BYTES:,} are read. "
            "The model sees only its last tokens: send the end of your text."
        )
    return prompt
