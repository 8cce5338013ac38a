"""How well a model predicts a text: loss, perplexity, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gpt2.errors import UserError
from gpt2.model import GPT2
from gpt2.tokenizer import Tokenizer

_TOKENS_A_FORWARD = 2048  # bounds the memory of the logits


@dataclass(frozen=True)
class Score:
    loss: float  # mean over the predicted tokens, nats per token
    perplexity: float  # exp(loss); depends on the tokenizer
    bits_per_byte: float  # of the UTF-8 text; comparable between tokenizers
    tokens: int  # predicted


def score_documents(model: GPT2, tokenizer: Tokenizer, documents: Iterable[str]) -> Score:
    """Score every document, each after an end of text where the vocabulary has one.

    Windows overlap by half, so that every token past the first window is predicted from at least
    half a window of context.
    """
    end = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    ids: list[int] = []
    size = 0
    for document in documents:
        ids += end + tokenizer.encode(document)
        size += len(document.encode("utf-8"))
    if len(ids) < 2:
        raise UserError("There is nothing to score: the text has fewer than two tokens.")
    window = model.config.n_positions
    total = total_loss(model, torch.tensor(ids), window, stride=max(1, window // 2))
    tokens = len(ids) - 1
    return make_score(total, tokens, size)


def make_score(total: float, tokens: int, size: int) -> Score:
    """From the summed loss in nats over `tokens`, which stand for `size` bytes of text."""
    loss = total / tokens
    perplexity = math.exp(loss) if loss < 700 else math.inf
    return Score(loss, perplexity, total / math.log(2) / size, tokens)


def mean_loss(model: GPT2, ids: Tensor, window: int, stride: int) -> float | None:
    """As `total_loss`, nats per token; None where there are fewer than two tokens."""
    return total_loss(model, ids, window, stride) / (len(ids) - 1) if len(ids) > 1 else None


@torch.no_grad()
def total_loss(model: GPT2, ids: Tensor, window: int, stride: int) -> float:
    """The summed loss, in nats, of all of `ids` (n,) but the first, each predicted once."""
    spans = list(window_spans(len(ids), window, stride))
    width = min(window, len(ids) - 1)
    batch = max(1, _TOKENS_A_FORWARD // width)
    total = 0.0
    for index in range(0, len(spans), batch):
        chosen = spans[index : index + batch]
        rows = torch.stack([ids[start : start + width + 1] for start, _ in chosen]).long()
        rows = rows.to(model.device)
        logits = model(rows[:, :-1]).float()  # (B, T, V)
        losses = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
        for row, (_, first) in zip(losses.view(len(chosen), width), chosen):
            total += row[first:].double().sum().item()
    return total


def window_spans(count: int, window: int, stride: int) -> Iterator[tuple[int, int]]:
    """(start, first) of windows over `count` tokens: inputs begin at start, and the targets from
    the first-th on are new. All windows are equally wide: the last is pushed back to fit."""
    width = min(window, count - 1)
    predicted = 0  # targets so far; target i is token i + 1
    start = 0
    while predicted < count - 1:
        start = min(start, count - 1 - width)
        yield start, predicted - start
        predicted = start + width
        start += stride
