"""From logits to a token: pure functions over one sequence's logits (V,).

The order is that of `transformers`: repetition penalty, temperature, top-k, top-p, min-p, draw.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gpt2.device import has_float64
from gpt2.settings import check, setting

MAX_NEW_TOKENS = 100_000
MAX_SAMPLES = 16
MAX_SEED = 2**63 - 1
_FIRST_LOOK = 1024  # how many of the likeliest tokens top-p tries before it sorts them all


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. Anything but plain values in range raises `UserError`.

    These settings are declared only here: the command line's flags, the API's arguments, the page's
    controls and the snippets are made from this class.
    """

    max_new_tokens: int = setting(
        100,
        "the most new tokens per text",
        title="Length",
        low=1,
        high=MAX_NEW_TOKENS,
        offered=(1, 1000),
        slider=(1, 1000, 1),
    )
    temperature: float = setting(
        0.8,
        "0 always picks the likeliest token; higher is bolder",
        low=0.0,
        high=100.0,
        slider=(0, 2, 0.05),
    )
    top_k: int = setting(
        40,
        "draw from the k likeliest tokens; 0 = off",
        title="Top-k",
        low=0,
        high=10_000_000,
        slider=(0, 200, 1),
    )
    top_p: float = setting(
        0.95,
        "draw from the fewest tokens that add up to this probability; 1 = off",
        title="Top-p",
        above=0.0,
        high=1.0,
        slider=(0.01, 1, 0.01),
    )
    repetition_penalty: float = setting(
        1.1,
        "make tokens already in the text less likely; 1 = off",
        low=0.01,
        high=100.0,
        slider=(1, 2, 0.05),
    )
    seed: int = setting(
        0,
        "the same seed gives the same text; -1 = random; sample i uses seed + i",
        low=0,
        high=MAX_SEED - MAX_SAMPLES,
        asked=-1,
    )
    samples: int = setting(
        1,
        "how many texts to write at once",
        low=1,
        high=MAX_SAMPLES,
        offered=(1, 4),
        slider=(1, 4, 1),
    )
    stop: tuple[str, ...] = setting(
        (), "stop before this text", title="Stop text", high=1000, most=16, asked=""
    )
    stop_at_end_of_text: bool = setting(
        True, "off: keep writing past <|endoftext|>", flag="--ignore-end"
    )
    # New settings go last: the arguments of the HTTP endpoint follow this order.
    min_p: float = setting(
        0.0,
        "drop tokens below this share of the likeliest token's probability; 0 = off",
        title="Min-p",
        low=0.0,
        high=1.0,
        slider=(0, 1, 0.01),
    )

    def __post_init__(self) -> None:
        check(self)


def resolve_seed(seed: object) -> object:
    """A fresh random seed for -1; any other value as it is, for `Sampling` to check."""
    return secrets.randbelow(2**31) if type(seed) in (int, float) and seed == -1 else seed


class Candidates(NamedTuple):
    """The tokens that may be drawn and their probabilities, which sum to 1."""

    ids: Tensor  # (n,) int64
    probabilities: Tensor  # (n,) float64; descending wherever top-k or top-p cut


def penalize(logits: Tensor, context: Tensor, penalty: float) -> Tensor:
    """Weaken every token of `context` (ids, repeats allowed): logits / penalty, negative ones *."""
    if penalty == 1.0:
        return logits
    scores = logits.gather(0, context)
    weaker = torch.where(scores < 0, scores * penalty, scores / penalty)
    return logits.scatter(0, context, weaker)


def candidates(
    logits: Tensor, temperature: float, top_k: int, top_p: float, min_p: float = 0.0
) -> Candidates:
    """The kept set at a temperature above 0. Top-k keeps exactly k tokens, ties or not; top-p keeps
    the fewest whose share reaches p; min-p keeps all with at least that share of the likeliest's
    probability (Nguyen et al. 2024, arXiv 2407.01082). At least one is always kept."""
    return _above_share_of_likeliest(_likeliest(logits, temperature, top_k, top_p), min_p)


def _likeliest(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Candidates:
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


def _above_share_of_likeliest(kept: Candidates, min_p: float) -> Candidates:
    if min_p == 0.0:
        return kept
    stays = kept.probabilities >= min_p * kept.probabilities.max()
    return Candidates(kept.ids[stays], _sum_to_one(kept.probabilities[stays]))


def _shares(scores: Tensor, temperature: float) -> Tensor:
    # In float64: with 50257 shares, float32 rounding moves the edge at which top-p cuts, and its
    # range turns a tiny temperature into 0. Shifting by the maximum keeps 1e-30 from overflowing.
    return ((scores.double() - scores.max()) / temperature).softmax(0)


def _nucleus(ids: Tensor, probabilities: Tensor, top_p: float) -> Candidates:
    if top_p < 1.0:
        before = probabilities.cumsum(0) - probabilities  # the share of all likelier tokens
        kept = max(1, int((before < top_p).sum()))
        ids, probabilities = ids[:kept], probabilities[:kept]
    return Candidates(ids, _sum_to_one(probabilities))


def _sum_to_one(probabilities: Tensor) -> Tensor:
    # Summed one by one, so that zeros behind them, as in `gpt2.sampling_rows`, change no bit.
    return probabilities / probabilities.cumsum(0)[-1]


def draw(kept: Candidates, generator: torch.Generator) -> int:
    """One token, drawn with a uniform number from `generator`."""
    return int(invert(kept, draw_uniform(generator).to(kept.ids.device)))


def draw_uniform(generator: torch.Generator) -> Tensor:
    """The float64 in [0, 1) that draws one token."""
    return torch.rand((), dtype=torch.float64, generator=generator, device=generator.device)


def invert(kept: Candidates, uniforms: Tensor) -> Tensor:
    """The tokens at which the cumulative distribution passes `uniforms` (any shape, in [0, 1))."""
    cumulative = kept.probabilities.double().cumsum(0)
    index = torch.searchsorted(cumulative, uniforms * cumulative[-1], right=True)
    return kept.ids[index.clamp(max=len(cumulative) - 1)]


def sample(logits: Tensor, context: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The next token after `context` (ids), given its logits (V,)."""
    if not has_float64(logits.device):  # which the shares need
        logits, context = logits.cpu(), context.cpu()
    logits = penalize(logits.float(), context, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return int(logits.argmax())
    kept = candidates(logits, sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p)
    return draw(kept, generator)


def sample_among(
    allowed: list[int],
    logits: Tensor,
    context: Tensor,
    sampling: Sampling,
    generator: torch.Generator,
) -> int:
    """As `sample`; where it draws another token than those `allowed`, it draws again among them. So
    a seed says the same whether or not its first draw had to be among them."""
    token = sample(logits, context, sampling, generator)
    if token in allowed:
        return token
    kept = torch.full_like(logits, -torch.inf)
    kept[allowed] = logits[allowed]
    return sample(kept, context, sampling, generator)
