"""The validation loss of a run, and the score of a model on a corpus."""

from __future__ import annotations

import numpy as np
import torch

from gpt2.model import GPT2
from gpt2.score import Score, make_score, total_loss
from train.data import Corpus


def evaluate(model: GPT2, tokens: np.ndarray, block_size: int) -> float | None:
    """The mean loss over all of `tokens` but the first, in blocks side by side; None if too few.
    The model must be in eval mode."""
    if len(tokens) < 2:
        return None
    total = total_loss(model, torch.from_numpy(tokens.astype(np.int64)), block_size, block_size)
    return total / (len(tokens) - 1)


def score(corpus: Corpus, loss: float) -> Score:
    """A validation loss with its perplexity and bits per byte."""
    count = len(corpus.validation) - 1
    return make_score(loss * count, count, corpus.bytes_of(corpus.validation[1:]))
