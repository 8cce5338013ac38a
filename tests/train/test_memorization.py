"""The memorization meter against brute force."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from gpt2.text import TextFile
from gpt2.tokenizer import CharacterTokenizer, gpt2_tokenizer
from train.config import TrainConfig
from train.data import build_corpus
from train.memorization import GRAM, TrainingText, open_training_text

ALPHABET = CharacterTokenizer(list("abc é"))


def text_of(generator: random.Random, size: int, letters: str) -> str:
    return "".join(generator.choices(letters, k=size))


def brute_longest(sample: str, text: str) -> int:
    best = 0
    for start in range(len(sample)):
        while start + best < len(sample) and sample[start : start + best + 1] in text:
            best += 1
    return best if best >= GRAM else 0


def brute_share(sample: str, text: str) -> float:
    grams = [sample[i : i + GRAM] for i in range(len(sample) - GRAM + 1)]
    return sum(gram in text for gram in grams) / len(grams) if grams else 0.0


def brute_covered(sample: str, text: str) -> list[bool]:
    covered = [False] * len(sample)
    for start in range(len(sample) - GRAM + 1):
        if sample[start : start + GRAM] in text:
            covered[start : start + GRAM] = [True] * GRAM
    return covered


def index(text: str, tokenizer) -> TrainingText:
    return TrainingText.build(np.array(tokenizer.encode(text), np.uint16), tokenizer)


@pytest.mark.parametrize("letters", ["a", "ab", "abc é"])
def test_it_finds_what_brute_force_finds(letters):
    generator = random.Random(3)
    for _ in range(60):
        text = text_of(generator, generator.randrange(0, 400), letters)
        sample = text_of(generator, generator.randrange(0, 60), letters)
        if text and generator.random() < 0.7:  # a passage of the text among words of its own
            start = generator.randrange(len(text))
            sample = sample + text[start : start + generator.randrange(40)] + sample[::-1]
        found = index(text, ALPHABET)
        result = found.measure(sample)
        assert result.longest_characters == len(result.longest) == brute_longest(sample, text)
        assert result.longest in text
        assert result.longest in sample
        assert result.share_of_8_grams == pytest.approx(brute_share(sample, text))
        spans = found.spans(sample)
        assert "".join(part for part, _ in spans) == sample
        marks = [inside for part, inside in spans for _ in part]
        assert marks == brute_covered(sample, text)
        assert all(a[1] != b[1] for a, b in itertools.pairwise(spans))


def test_samples_are_taken_together():
    text = "abc abc cba bca ccc aaa bbb "
    found = index(text, ALPHABET)
    together = found.measure("abc abc cba", "ééééééééé")
    assert together.longest == "abc abc cba"
    assert together.share_of_8_grams == pytest.approx(4 / 6)


@pytest.mark.parametrize("sample", ["", "a", "abc abc"])
def test_too_short_a_sample_is_no_memory(sample):
    found = index("abc abc abc abc", ALPHABET)
    assert found.measure(sample).longest_characters == 0
    assert "".join(part for part, _ in found.spans(sample)) == sample


@pytest.mark.parametrize("text", ["", "abc", "abcabca"])
def test_too_short_a_text_holds_nothing(text):
    assert index(text, ALPHABET).measure("abcabcabcabc").longest == ""


def test_byte_pairs_are_followed_into_the_tokens_beside_them():
    """The passage begins and ends within tokens: "Xun" and "sunken" share "un" only."""
    tokenizer = gpt2_tokenizer()
    passage = "dermost depths of the old grey harbour lay three boats of the fishermen, and be"
    text = f"In the un{passage}yond it the sea — 灯台 — was calm."
    sample = f"He saw won{passage}tter days."
    result = index(text, tokenizer).measure(sample)
    assert passage[passage.index(" depths") : passage.rindex("be")] in result.longest
    assert result.longest in text
    assert result.longest in sample


def test_characters_of_several_tokens_stay_whole_in_spans():
    tokenizer = gpt2_tokenizer()
    text = "灯台の光は遠くまで届く。" * 3
    sample = "👩‍🚀 " + text + " 👩‍🚀"
    spans = index(text, tokenizer).spans(sample)
    assert "".join(part for part, _ in spans) == sample
    assert any(inside for _, inside in spans)


def test_the_index_is_found_again_on_disk(tmp_path):
    text = text_of(random.Random(1), 5000, "abc é")
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    folder = tmp_path / "tokens"
    config = TrainConfig(validation_share=0.0)
    corpus = build_corpus([TextFile(tmp_path / "text.txt")], ALPHABET, folder, config)
    ALPHABET.save(folder)
    assert open_training_text(folder) is None
    built = TrainingText.build(corpus.train, ALPHABET)
    built.save(folder)
    sample = text[100:180] + "abcabc" + text[3000:3100]
    assert open_training_text(folder).measure(sample) == built.measure(sample)
    assert built.measure(sample).longest_characters >= 100
