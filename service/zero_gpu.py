"""ZeroGPU, the GPUs that the Hub's Spaces share: a function has one for some seconds.

The function runs in a forked process of its own, so it stands at the top of a module, takes and
gives plain values, and is called within the visitor's request, whose quota pays for it. Nothing
here starts a thread in between, and the server itself never touches CUDA. Elsewhere the functions
are what they are.

PyTorch is imported by the functions alone: the package `spaces` wants to come before it.
"""

from __future__ import annotations

import functools
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2.errors import UserError

if TYPE_CHECKING:
    from gpt2.generate import Piece
    from gpt2.sampling import Sampling
    from train.run_folder import Progress

SLICE_SECONDS = 30.0  # of training, between two checkpoints
CARD_FACTOR = 1.5  # what the service charges for a second on today's card
SLICE_REST = 15.0  # to load, to save, and for a last step that is under way
_LARGE = 20e6  # parameters; a smaller model is written by the CPU as fast, and costs no quota
_LONGEST = 60.0  # seconds of a text
_PIECES_SECONDS = 0.2  # between two batches; a reader who leaves is noticed at each


def is_zero_gpu() -> bool:
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("true", "1")


def import_spaces() -> None:
    """Before PyTorch is imported, where it is needed."""
    if is_zero_gpu():
        import spaces  # noqa: F401


def _with_gpu(seconds: Callable[..., float]) -> Callable:
    """Decorate a generator: it has a GPU for as many seconds as its arguments ask for."""

    def decorate(work: Callable) -> Callable:
        if not is_zero_gpu():
            return work
        import spaces

        return spaces.GPU(duration=lambda *given: math.ceil(seconds(*given)))(work)

    return decorate


def pays_off(parameters: int) -> bool:
    """Whether a model of so many is better written by the GPU."""
    return is_zero_gpu() and parameters > _LARGE


def text_seconds(source: str, prompt: str, sampling: Sampling) -> float:
    """For loading the largest model, and its tokens at a pace that it holds."""
    return min(_LONGEST, 10 + 0.04 * sampling.max_new_tokens)


@_with_gpu(text_seconds)
def write_on_gpu(source: str, prompt: str, sampling: Sampling) -> Iterator[list[Piece]]:
    """What `generate_pieces` yields for a `resolve` name, in batches."""
    from gpt2.generate import generate_pieces

    model, tokenizer = _load(source)
    some, since = [], time.monotonic()
    for piece in generate_pieces(model, tokenizer, prompt, sampling):
        some.append(piece)
        if time.monotonic() - since > _PIECES_SECONDS:
            yield some
            some, since = [], time.monotonic()
    if some:
        yield some


@functools.lru_cache(maxsize=1)  # a worker may be used again
def _load(source: str):
    from gpt2.inference import load_for_inference

    return load_for_inference(source)


def slice_seconds(run: str, seconds: float, device: str) -> float:
    return seconds + SLICE_REST


@_with_gpu(slice_seconds)
def train_on_gpu(run: str, seconds: float, device: str) -> Iterator[Progress]:
    """A slice of a run: `service.worker.train_slice`."""
    from service.worker import train_slice

    yield from train_slice(Path(run), seconds, device)


@contextmanager
def explaining_refusals() -> Iterator[None]:
    """What ZeroGPU refuses, as a `UserError` in plain words."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if words := _REFUSALS.get(str(getattr(error, "title", "")).removeprefix("ZeroGPU ")):
            raise UserError(words.format(wait=_wait_in(str(error)))) from None
        raise


_REFUSALS = {
    "illegal duration": (
        "This asks for more GPU time at once than you have in a day. Sign in with Hugging Face for "
        "more, or ask for less."
    ),
    "quota exceeded": (
        "Your GPU time for today is used up{wait}. Signed in with Hugging Face you have more; "
        "nothing is lost, so come back by this link when there is some again."
    ),
    "pending credits exceeded": (
        "Other work of yours on Hugging Face has reserved the rest of your GPU time. Wait until it "
        "has ended, then try again."
    ),
    "queue timeout": "No GPU was free for a minute. Try again in a moment.",
    "client error": "No GPU could be had. Reload the page, then try again.",
    "worker error": (
        "The work on the GPU broke off. What was saved before is there: try again from it."
    ),
}


def _wait_in(text: str) -> str:
    """ " until 3:10:00 from now", as far as the service says it."""
    found = re.search(r"[Tt]ry again in ([\d:]+)", text)
    return f" (again in {found[1]})" if found else ""


def slices_of(seconds: float) -> int:
    """How many a run of so many seconds takes."""
    return max(1, math.ceil(seconds / SLICE_SECONDS))
