"""Loss, perplexity, bits per byte: every token once, with enough context."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from gpt2.errors import UserError
from gpt2.score import score_documents, total_loss, window_spans
from gpt2.tokenizer import CharacterTokenizer


@pytest.mark.parametrize("count", [2, 3, 8, 9, 10, 16, 17, 50, 51])
@pytest.mark.parametrize("stride", [1, 4, 8])
def test_every_target_is_predicted_once_in_equal_windows(count, stride):
    window, width = 8, min(8, count - 1)
    seen = []
    for start, first in window_spans(count, window, stride):
        assert start >= 0
        assert start + width + 1 <= count
        seen += range(start + 1 + first, start + 1 + width)
    assert seen == list(range(1, count))


def test_context_is_at_least_half_a_window_after_the_first():
    spans = list(window_spans(1000, 64, 32))
    assert all(first >= 32 for _, first in spans[1:])


@pytest.mark.parametrize("stride", [3, 8])
def test_the_loss_is_that_of_a_loop_over_single_windows(make_model, stride):
    model = make_model(dtype=torch.float64, n_positions=8, scale=0.2)
    ids = torch.randint(0, 97, (45,), generator=torch.Generator().manual_seed(0))
    expected = 0.0
    with torch.no_grad():
        for start, first in window_spans(len(ids), 8, stride):
            logits = model(ids[None, start : start + 8])[0]
            losses = F.cross_entropy(logits, ids[start + 1 : start + 9], reduction="none")
            expected += float(losses[first:].sum())
    assert total_loss(model, ids, 8, stride) == pytest.approx(expected, abs=1e-5)


def test_a_uniform_model_scores_the_logarithm_of_its_vocabulary(make_model):
    """With all weights zero every token has the same probability: worked out by hand."""
    model = make_model(vocab_size=4, scale=0.0)
    tokenizer = CharacterTokenizer(["a", "b", "c", "é"])
    score = score_documents(model, tokenizer, ["abcé" * 10])
    assert score.tokens == 39
    assert score.loss == pytest.approx(math.log(4))
    assert score.perplexity == pytest.approx(4)
    assert score.bits_per_byte == pytest.approx(39 * 2 / 50)  # é has two bytes


def test_a_text_of_one_token_cannot_be_scored(make_model):
    with pytest.raises(UserError, match="fewer than two tokens"):
        score_documents(make_model(vocab_size=1), CharacterTokenizer(["a"]), ["a"])
