"""Loss, perplexity, bits per byte: every token once, with enough context."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gpt2.errors import UserError
from gpt2.score import Measure, mean_loss, score_texts, windows_of
from gpt2.text import PastedText, TextFile
from gpt2.tokenizer import BytePairTokenizer, CharacterTokenizer, byte_characters


@pytest.fixture
def bytes_only() -> BytePairTokenizer:
    tokens = [*byte_characters(), "<|endoftext|>"]
    return BytePairTokenizer({token: i for i, token in enumerate(tokens)}, [])


def spans_of(count: int, window: int, stride: int, cut: int) -> list[tuple[list[int], int]]:
    """The windows of the stream 0, 1, 2, ... that comes in chunks of `cut` ids."""
    ids = np.arange(count, dtype=np.uint16)
    chunks = (ids[start : start + cut] for start in range(0, count, cut))
    return [(row.tolist(), known) for row, known in windows_of(chunks, window, stride)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 9, 10, 16, 17, 50, 51])
@pytest.mark.parametrize("stride", [1, 4, 8])
@pytest.mark.parametrize("cut", [1, 5, 100])
def test_every_target_is_predicted_once_in_equal_windows(count, stride, cut):
    """However the stream is cut into chunks."""
    width, seen = min(8, count - 1), []
    for ids, known in spans_of(count, 8, stride, cut):
        assert ids == list(range(ids[0], ids[0] + width + 1))
        seen += ids[known + 1 :]
    assert seen == list(range(1, count))


def test_context_is_at_least_half_a_window_after_the_first():
    spans = spans_of(1000, 64, 32, 100)
    assert len(spans) == 31
    assert all(known >= 32 for _, known in spans[1:])


@pytest.mark.parametrize("stride", [3, 8])
def test_the_loss_is_that_of_a_loop_over_single_windows(make_model, stride):
    model = make_model(dtype=torch.float64, n_positions=8, scale=0.2)
    ids = torch.randint(0, 97, (45,), generator=torch.Generator().manual_seed(0))
    expected, start = 0.0, 0
    predicted = 0  # targets so far
    with torch.no_grad():
        while predicted < 44:
            start = min(start, 45 - 9)
            logits = model(ids[None, start : start + 8])[0]
            losses = F.cross_entropy(logits, ids[start + 1 : start + 9], reduction="none")
            expected += float(losses[predicted - start :].sum())
            predicted, start = start + 8, start + stride
    loss = mean_loss(model, ids.numpy(), Measure(8, stride))
    assert loss * 44 == pytest.approx(expected, abs=1e-5)


def test_a_uniform_model_scores_the_logarithm_of_its_vocabulary(make_model):
    """With all weights zero every token has the same probability: worked out by hand."""
    model = make_model(vocab_size=4, scale=0.0)
    tokenizer = CharacterTokenizer(["a", "b", "c", "é"])
    score = score_texts(model, tokenizer, [PastedText("abcé" * 10)], Measure().settled(model))
    assert score.tokens == 39
    assert score.loss == pytest.approx(math.log(4))
    assert score.perplexity == pytest.approx(4)
    assert score.bits_per_byte == pytest.approx(39 * 2 / 50)  # é has two bytes


def test_a_text_of_one_token_cannot_be_scored(make_model):
    model = make_model(vocab_size=1)
    with pytest.raises(UserError, match="fewer than two tokens"):
        score_texts(model, CharacterTokenizer(["a"]), [PastedText("a")], Measure().settled(model))


def test_every_document_is_followed_by_the_end_of_text(tmp_path, make_model, bytes_only):
    """The ids that are scored, by hand: the first is context only, both ends are predicted."""
    file = tmp_path / "two.txt"
    file.write_text("ab\n<|endoftext|>\ncd")
    stream = [*b"ab\n", 256, *b"cd", 256]
    order = list(byte_characters().values())
    ids = [256 if byte == 256 else order.index(byte) for byte in stream]
    model = make_model(vocab_size=257, dtype=torch.float64)
    with torch.no_grad():
        rows = model(torch.tensor([ids[:-1]]))[0].log_softmax(-1)
    expected = -float(rows[range(6), ids[1:]].mean())
    score = score_texts(model, bytes_only, [TextFile(file)], Measure().settled(model))
    assert (score.tokens, score.window, score.stride) == (6, 64, 64)
    assert score.loss == pytest.approx(expected, abs=1e-5)  # logits are rounded to float32
    assert score.bits_per_byte == pytest.approx(6 * expected / math.log(2) / 5, rel=1e-5)


def test_what_is_left_open_follows_the_model_and_what_cannot_be_is_refused(make_model):
    model = make_model()
    assert Measure().settled(model) == Measure(64, 64, "float32")
    assert Measure().settled(model, overlap=True) == Measure(64, 32, "float32")
    assert Measure(window=10).settled(model, overlap=True) == Measure(10, 5, "float32")
    assert Measure(window=1).settled(model, overlap=True) == Measure(1, 1, "float32")
    assert Measure(dtype="auto").settled(model).dtype in ("float32", "bfloat16")
    for wrong, message in [
        (Measure(window=65), "window must be at most 64"),
        (Measure(stride=65), "stride must be at most the window, 64"),
        (Measure(window=8, stride=9), "stride must be at most the window, 8"),
        (Measure(dtype="tf32"), "tf32 is for NVIDIA's GPUs"),
    ]:
        with pytest.raises(UserError, match=message):
            wrong.settled(model)
    for bad in ({"window": 0}, {"stride": -1}, {"window": True}, {"dtype": "int8"}):
        with pytest.raises(UserError):
            Measure(**bad)


def test_the_number_format_is_the_one_that_is_named(make_model):
    model = make_model(seed=3)
    ids = np.arange(60) % 97
    plain = mean_loss(model, ids, Measure(16, 16, "float32"))
    mixed = mean_loss(model, ids, Measure(16, 16, "bfloat16"))
    assert plain != mixed
    assert mixed == pytest.approx(plain, rel=0.02)
