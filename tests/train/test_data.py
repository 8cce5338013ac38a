"""Tokens on disk and the batches made of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from gpt2.errors import UserError
from gpt2.text import TextFile, open_texts
from gpt2.tokenizer import CharacterTokenizer, gpt2_tokenizer
from train.config import TrainConfig
from train.data import Windows, build_corpus, fit_block, open_corpus

CONFIG = TrainConfig(block_size=8, batch_size=4, micro_batch_size=4)


def corpus_of(tmp_path, text, config=CONFIG, tokenizer=None):
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    tokenizer = tokenizer or CharacterTokenizer.from_text(text)
    return build_corpus([TextFile(file)], tokenizer, tmp_path / "tokens", config)


def test_the_tail_is_split_off_as_nanogpt_does(tmp_path):
    """nanoGPT: the first int(0.9 n) characters train, the rest validates."""
    text = "".join(chr(97 + index % 26) for index in range(1003))
    corpus = corpus_of(tmp_path, text)
    decode = corpus.tokenizer.decode
    assert decode(corpus.train.tolist()) == text[: int(0.9 * 1003)]
    assert decode(corpus.validation.tolist()) == text[int(0.9 * 1003) :]
    assert corpus.report.train_tokens == 902
    assert corpus.bytes_of(corpus.validation) == 101


def test_documents_end_with_the_end_of_text_and_are_split_whole(tmp_path):
    tokenizer = gpt2_tokenizer()
    texts = [f"document number {index}\n" for index in range(200)]
    config = replace(CONFIG, split="documents", validation_share=0.3)
    corpus = corpus_of(tmp_path, "<|endoftext|>\n".join(texts), config, tokenizer)
    parts = []
    for tokens in (corpus.train, corpus.validation):
        ids = tokens.tolist()
        assert ids[-1] == tokenizer.end_of_text
        parts.append(tokenizer.decode(ids).split("<|endoftext|>")[:-1])
    assert sorted(parts[0] + parts[1]) == sorted(texts)
    assert 30 < len(parts[1]) < 90
    assert corpus.train.dtype == np.uint16
    assert corpus.bytes_of(corpus.train) == sum(map(len, parts[0]))


def test_the_first_document_can_be_drawn_for_validation_too(tmp_path):
    firsts, tokenizer = set(), gpt2_tokenizer()
    for seed in range(20):
        config = replace(CONFIG, split="documents", validation_share=0.5, seed=seed)
        text = "<|endoftext|>\n".join(["aaaa\n", "bbbb\n", "cccc\n", "dddd\n"])
        corpus = corpus_of(tmp_path, text, config, tokenizer)
        firsts.add("a" in corpus.tokenizer.decode(corpus.validation.tolist()))
    assert firsts == {True, False}


def test_a_large_vocabulary_is_stored_in_four_bytes(tmp_path):
    characters = [chr(0x4E00 + index) for index in range(70_000) if index < 20_000] + [
        chr(0x20000 + index) for index in range(50_000)
    ]
    corpus = corpus_of(tmp_path, "".join(characters), CONFIG, CharacterTokenizer(characters))
    assert corpus.train.dtype == np.uint32
    assert corpus.validation[-1] == 69_999


def test_a_reopened_corpus_is_the_same(tmp_path):
    corpus = corpus_of(tmp_path, "some text to keep " * 20)
    again = open_corpus(tmp_path / "tokens", corpus.tokenizer)
    assert np.array_equal(corpus.train, again.train)
    assert again.report == corpus.report


def test_a_report_of_an_earlier_version_has_no_notes(tmp_path):
    corpus = corpus_of(tmp_path, "some text to keep " * 20)
    path = tmp_path / "tokens" / "report.json"
    described = json.loads(path.read_text())
    del described["notes"]
    path.write_text(json.dumps(described))
    assert open_corpus(tmp_path / "tokens", corpus.tokenizer).report == corpus.report


def test_the_report_tells_what_was_seen(tmp_path):
    (tmp_path / "a.txt").write_bytes("one<|endoftext|>two süß caf\xe9".encode() + b"\xff")
    (tmp_path / "b.csv").write_text("text\nthree\n")
    texts, notes = open_texts([tmp_path / "*.*"], "text")
    corpus = build_corpus(texts, gpt2_tokenizer(), tmp_path / "tokens", CONFIG, notes)
    assert corpus.report.encodings == {"a.txt": "utf-8", "b.csv": "utf-8"}
    assert corpus.report.documents == 3
    assert corpus.report.notes == (
        f"{tmp_path / '*.*'}: 2 files",
        "a.txt: 1 byte is not of utf-8, dropped; the first is byte 31",
        "a.txt: documents are parted at 1 <|endoftext|>",
    )


@pytest.mark.parametrize("stride", [0, 3, 8])
@pytest.mark.parametrize("count", [9, 10, 17, 100, 101])
def test_every_token_is_predicted_in_an_epoch(count, stride):
    windows = Windows(
        np.arange(count, dtype=np.uint16),
        replace(CONFIG, stride=stride, batch_size=1, micro_batch_size=1),
    )
    seen = set()
    for step in range(windows.per_epoch):
        row = windows.batch(step)[0]
        assert (row[1:] - row[:-1] == 1).all()
        seen.update(row[1:].tolist())
    assert seen == set(range(1, count))


def test_a_batch_is_a_function_of_seed_and_step():
    tokens = np.arange(1000, dtype=np.uint16)
    one, other = Windows(tokens, CONFIG), Windows(tokens, CONFIG)
    expected = [one.batch(step) for step in range(80)]  # across epochs
    for step in (79, 3, 50, 0):
        assert (other.batch(step) == expected[step]).all()
    changed = Windows(tokens, replace(CONFIG, seed=1))
    assert not (changed.batch(0) == expected[0]).all()
    rows = [other.batch(5, slice(0, 2)), other.batch(5, slice(2, 4))]
    assert (np.concatenate(rows) == expected[5].numpy()).all()


def test_epochs_have_different_orders():
    windows = Windows(np.arange(81, dtype=np.uint16), replace(CONFIG, batch_size=10))
    assert windows.per_epoch == 10
    first, second = windows.batch(0)[:, 0], windows.batch(1)[:, 0]
    assert sorted(first.tolist()) == sorted(second.tolist())
    assert first.tolist() != second.tolist()


def test_a_short_text_shrinks_the_block_and_says_so(tmp_path):
    corpus = corpus_of(tmp_path, "abcdef")
    config, note = fit_block(replace(CONFIG, stride=8), corpus, window=128)
    assert config.block_size == 4
    assert config.stride == 4
    assert "the text has room for blocks of 4 tokens, not 8" in note
    assert Windows(corpus.train, config).batch(0).shape == (4, 5)
    config, note = fit_block(CONFIG, corpus_of(tmp_path, "abcdef" * 10), window=4)
    assert config.block_size == 4
    assert "the model's window" in note


def test_a_text_without_tokens_is_refused(tmp_path):
    corpus = corpus_of(tmp_path, "a")
    with pytest.raises(UserError, match="fewer than two tokens"):
        fit_block(CONFIG, corpus, window=128)
