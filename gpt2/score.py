"""How well a model predicts a text: loss, perplexity, bits per byte.

The one implementation of this measure: training's validation, `evaluate` and `score` agree wherever
they read the same documents by the same `Measure`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch.nn import functional as F

from gpt2.errors import UserError
from gpt2.model import GPT2
from gpt2.precision import FORMATS, computing_in, number_format
from gpt2.settings import check, setting
from gpt2.text import Text
from gpt2.token_stream import encode_texts
from gpt2.tokenizer import Tokenizer

_TOKENS_A_FORWARD = 2048  # bounds the memory of the logits
_TOKENS_A_CHUNK = 1 << 20  # of stored ids


@dataclass(frozen=True)
class Measure:
    """How a text is read for a score. Every result names all three."""

    window: int | None = setting(
        None, "tokens that the model reads at a time", low=1, asked="all that it can"
    )
    stride: int | None = setting(
        None, "tokens from one window to the next", low=1, asked="the window, side by side"
    )
    dtype: str = setting("float32", "number format of the matrix products", choices=FORMATS)

    def __post_init__(self) -> None:
        check(self)

    def settled(self, model: GPT2, overlap: bool = False) -> Measure:
        """With what is left open filled in for `model`: a stride of the window or, where windows
        should `overlap`, of half of it. `UserError` for what it cannot do."""
        limit = model.config.n_positions
        window = self.window or limit
        if window > limit:
            raise UserError(f"window must be at most {limit}, which is all that this model reads.")
        stride = self.stride or (max(1, window // 2) if overlap else window)
        if stride > window:
            raise UserError(f"stride must be at most the window, {window}, or tokens are left out.")
        return Measure(window, stride, number_format(self.dtype, model.device))

    def __str__(self) -> str:
        return f"window {self.window}, stride {self.stride}, {self.dtype}"


@dataclass(frozen=True)
class Score:
    loss: float  # mean over the predicted tokens, nats per token
    perplexity: float  # exp(loss); depends on the tokenizer
    bits_per_byte: float  # of the UTF-8 text; comparable between tokenizers
    tokens: int  # predicted
    window: int
    stride: int
    dtype: str

    def __str__(self) -> str:
        measure = Measure(self.window, self.stride, self.dtype)
        return (
            f"loss {self.loss:.4f}, perplexity {self.perplexity:.2f}, "
            f"{self.bits_per_byte:.4f} bits per byte, {self.tokens:,} tokens ({measure})"
        )


def score_texts(
    model: GPT2, tokenizer: Tokenizer, texts: Iterable[Text], measure: Measure
) -> Score:
    """Score all documents as one stream in which each is followed by the end of text, where the
    vocabulary has one. `measure` is settled. Of the text only a piece is in memory at a time."""
    size = 0

    def chunks() -> Iterator[np.ndarray]:
        nonlocal size
        for piece in encode_texts(texts, tokenizer):
            size += piece.bytes
            yield np.array(piece.ids, dtype=np.int64)

    total, tokens = total_loss(model, chunks(), measure)
    if not tokens or not size:
        raise UserError("There is nothing to score: the text has fewer than two tokens.")
    return make_score(total, tokens, size, measure)


def make_score(total: float, tokens: int, size: int, measure: Measure) -> Score:
    """From the summed loss in nats over `tokens` of a text of `size` bytes."""
    loss = total / tokens
    perplexity = math.exp(loss) if loss < 700 else math.inf
    bits = total / math.log(2) / size
    return Score(loss, perplexity, bits, tokens, measure.window, measure.stride, measure.dtype)


def mean_loss(model: GPT2, ids: np.ndarray, measure: Measure) -> float | None:
    """As `total_loss`, of ids (n,) in memory or on disk, nats per token; None where there are fewer
    than two."""
    starts = range(0, len(ids), _TOKENS_A_CHUNK)
    chunks = (ids[start : start + _TOKENS_A_CHUNK] for start in starts)
    total, tokens = total_loss(model, chunks, measure)
    return total / tokens if tokens else None


@torch.no_grad()
def total_loss(model: GPT2, chunks: Iterable[np.ndarray], measure: Measure) -> tuple[float, int]:
    """The summed loss, in nats, of a stream of ids, chunks (n,), each but the first predicted once;
    and how many that are."""
    windows = windows_of(chunks, measure.window, measure.stride)
    batch = max(1, _TOKENS_A_FORWARD // measure.window)
    total, count = 0.0, 0
    with computing_in(measure.dtype, model.device):
        while chosen := list(islice(windows, batch)):
            rows = torch.from_numpy(np.stack([window for window, _ in chosen])).to(model.device)
            logits = model(rows[:, :-1]).float()  # (B, T, V)
            losses = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
            for row, (_, known) in zip(losses.view(len(chosen), -1), chosen):
                total += row[known:].cpu().double().sum().item()  # not every device has float64
                count += len(row) - known
    return total, count


def windows_of(
    chunks: Iterable[np.ndarray], window: int, stride: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Windows of a stream of ids, (window + 1,) int64, and how many of each one's targets the
    windows before have predicted. All are equally wide: the last is pushed back to fit, and of a
    shorter stream there is one, of all of it."""
    held = np.zeros(0, dtype=np.int64)  # from the start of the window before on
    step, known = 0, 0
    for chunk in chunks:
        held = np.concatenate((held, chunk.astype(np.int64)))
        while len(held) - step > window:
            held = held[step:]
            yield held[: window + 1], known
            step, known = stride, window - stride
    beyond = len(held) - (window + 1)
    if not step and len(held) > 1:
        yield held, 0
    elif step and beyond:
        yield held[-(window + 1) :], window - beyond
