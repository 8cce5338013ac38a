"""From logits to a token: pure functions over one sequence's logits (V,).

The order is that of `transformers`: repetition penalty, temperature, top-k, top-p, draw.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gpt2.errors import UserError

MAX_NEW_TOKENS = 100_000
MAX_SAMPLES = 16
MAX_SEED = 2**63 - 1
_FIRST_LOOK = 1024  # how many of the likeliest tokens top-p tries before it sorts them all


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. Anything but plain numbers in range raises `UserError`.

    This is the one parser of these values for the command line, the page and the API: whole
    numbers may come as 40 or 40.0, truth values and text never pass as numbers.
    """

    temperature: float = 0.8  # 0 = greedy; above 1 flatter than the model
    top_k: int = 40  # draw from the k likeliest tokens; 0 = off
    top_p: float = 0.95  # draw from the fewest tokens that hold this share; 1 = off
    repetition_penalty: float = 1.1  # weaken tokens in the context (Keskar et al. 2019); 1 = off
    max_new_tokens: int = 100
    seed: int = 0  # sample i of several draws with seed + i
    samples: int = 1  # how many continuations, made together as one batch
    stop: str = ""  # end before this text; "" = off
    stop_at_end_of_text: bool = True

    def __post_init__(self) -> None:
        self._number("temperature", 0.0, 100.0)
        self._whole("top_k", 0, 10_000_000)
        self._number("top_p", 0.0, 1.0)
        self._number("repetition_penalty", 0.01, 100.0)
        self._whole("max_new_tokens", 1, MAX_NEW_TOKENS)
        self._whole("samples", 1, MAX_SAMPLES)
        self._whole("seed", 0, MAX_SEED - MAX_SAMPLES)
        if self.top_p == 0:
            raise UserError("top_p must be above 0 and at most 1 (1 = off).")
        if type(self.stop) is not str or len(self.stop) > 1000:
            raise UserError("stop must be a text of at most 1000 characters.")
        if type(self.stop_at_end_of_text) is not bool:
            raise UserError("stop_at_end_of_text must be true or false.")

    def _number(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if type(value) not in (int, float) or not low <= value <= high:
            raise UserError(
                f"{name} must be a number from {low:g} to {high:g}, not {_show(value)}."
            )
        object.__setattr__(self, name, float(value))

    def _whole(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        whole = type(value) is int or (type(value) is float and value.is_integer())
        if not whole or not low <= value <= high:
            raise UserError(
                f"{name} must be a whole number from {low} to {high}, not {_show(value)}."
            )
        object.__setattr__(self, name, int(value))


def resolve_seed(seed: object) -> object:
    """A fresh random seed for -1; any other value as it is, for `Sampling` to judge."""
    return secrets.randbelow(2**31) if type(seed) in (int, float) and seed == -1 else seed


class Candidates(NamedTuple):
    """The tokens that may be drawn and their probabilities, which sum to 1."""

    ids: Tensor  # (n,) int64
    probabilities: Tensor  # (n,) float64; descending wherever top-k or top-p cut


def penalise(logits: Tensor, context: Tensor, penalty: float) -> Tensor:
    """Weaken every token of `context` (ids, repeats allowed): logits / penalty, negative ones *."""
    if penalty == 1.0:
        return logits
    scores = logits[context]
    weaker = torch.where(scores < 0, scores * penalty, scores / penalty)
    return logits.index_put((context,), weaker)


def candidates(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Candidates:
    """The kept set at a temperature above 0. Exactly k tokens stay under top-k, ties or not;
    under top-p the fewest whose share reaches p, never none."""
    total = len(logits)
    if 0 < top_k < total:
        scores, ids = logits.topk(top_k)
        return _nucleus(ids, _shares(scores, temperature), top_p)
    shares = _shares(logits, temperature)
    if top_p == 1.0:
        return Candidates(torch.arange(total, device=logits.device), shares)
    ids = logits.topk(min(_FIRST_LOOK, total)).indices
    if shares[ids].sum() < top_p:
        ids = logits.argsort(descending=True)
    return _nucleus(ids, shares[ids], top_p)


def _shares(scores: Tensor, temperature: float) -> Tensor:
    # In float64: with 50257 shares the rounding of float32 moves the edge that top-p cuts, and its
    # range turns a tiny temperature into 0. Shifting by the maximum keeps 1e-30 from overflowing.
    return ((scores.double() - scores.max()) / temperature).softmax(0)


def _nucleus(ids: Tensor, probabilities: Tensor, top_p: float) -> Candidates:
    if top_p < 1.0:
        before = probabilities.cumsum(0) - probabilities  # the share of all likelier tokens
        kept = max(1, int((before < top_p).sum()))
        ids, probabilities = ids[:kept], probabilities[:kept]
    return Candidates(ids, probabilities / probabilities.sum())


def draw(kept: Candidates, generator: torch.Generator) -> int:
    """One token by a uniform number of `generator`."""
    uniform = torch.rand((), dtype=torch.float64, generator=generator, device=generator.device)
    return int(invert(kept, uniform.to(kept.ids.device)))


def invert(kept: Candidates, uniforms: Tensor) -> Tensor:
    """The tokens at which the cumulative distribution passes `uniforms` (any shape, in [0, 1))."""
    cumulative = kept.probabilities.double().cumsum(0)
    index = torch.searchsorted(cumulative, uniforms * cumulative[-1], right=True)
    return kept.ids[index.clamp(max=len(cumulative) - 1)]


def sample(logits: Tensor, context: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The next token after `context` (ids) given its logits (V,)."""
    logits = penalise(logits.float(), context, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return int(logits.argmax())
    kept = candidates(logits, sampling.temperature, sampling.top_k, sampling.top_p)
    return draw(kept, generator)


def _show(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not print whole numbers of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 40 else text[:40] + "..."
