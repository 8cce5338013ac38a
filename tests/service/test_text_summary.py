"""The card of a text, and every file that is none."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import tempfile
import zlib
from pathlib import Path

import pytest

import gpt2.text
from gpt2.errors import UserError
from gpt2.tokenizer import CharacterTokenizer, gpt2_tokenizer
from service.limits import Limits
from service.text_summary import check_file, open_text, prepare_text, summarize_text
from train.data import open_corpus

TOKENIZER = gpt2_tokenizer()
LIMITS = Limits()
WORDS = "The sea was calm, and the boats lay still in the old harbour. "
LONG = WORDS * 2000


def png() -> bytes:
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    rows = zlib.compress(os.urandom(64 * 193))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def card(source: object, tokenizer=TOKENIZER, block_size=256, column=None, limits=LIMITS):
    """The summary of a file, prepared in a folder of its own, or of a pasted text."""
    text = open_text(source, column, limits)
    if not isinstance(source, Path):
        return summarize_text(text, tokenizer, block_size)
    with tempfile.TemporaryDirectory() as folder:
        return prepare_text(text, tokenizer, block_size, Path(folder) / "tokens")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a", "1 tokens"),
        (WORDS.encode(), "fewer than 200"),
        (b" " * 5000, "is empty"),
        (png(), "not text"),
        (gzip.compress(LONG.encode()), "not text|cannot be read"),
        (gzip.compress(os.urandom(20_000)), "not text|cannot be read"),
        (pickle.dumps(list(range(5000))), "not text|cannot be read"),
        (LONG.encode("utf-16-le"), "zero bytes"),
        (LONG.encode("utf-32"), "zero bytes|not text|cannot be read"),
        (b"text " * 500 + b"\0" + b"text " * 500, "zero bytes"),
        (b"\x01\x02\x03\x04" * 1000, "control characters"),
        ("\ufeff".encode("utf-16")[:2] + b"abc", "cannot be read|tokens"),
    ],
)
def test_what_is_no_text_is_refused_in_words(tmp_path, content, message):
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        card(path)
    assert str(path.parent) not in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "found", "text"),
    [
        ("utf-8", "utf-8", LONG + "Ærøskøbing"),
        ("utf-8-sig", "utf-8-sig", LONG + "Ærøskøbing"),
        ("utf-16", "utf-16", LONG + "Ærøskøbing 灯台"),
        ("cp1252", "cp1252", LONG + "naïve café – ‘quoted’"),
        ("latin-1", "cp1252", LONG + "Ærøskøbing"),
    ],
)
def test_the_encoding_is_found_and_told(tmp_path, encoding, found, text):
    path = tmp_path / "file.txt"
    path.write_bytes(text.encode(encoding))
    described = card(path)
    assert described.encoding == found
    assert described.characters == len(text)
    assert described.tokens == len(TOKENIZER.encode(text))
    assert described.blocks == described.tokens // 256
    assert len(described.first_blocks) == 3
    assert text.startswith("".join(described.first_blocks))
    assert ("Windows-1252" in (described.warning or "")) == (found == "cp1252")


def test_utf8_cut_within_a_character_is_read_and_warned_about(tmp_path):
    """It is no UTF-8 any more, so every other such letter is read wrongly: the card says so."""
    path = tmp_path / "file.txt"
    path.write_bytes((LONG + "灯台").encode()[:-1])
    try:
        warning = card(path).warning
    except UserError as error:
        warning = str(error)
    assert "cp1252" in warning or "Windows-1252" in warning


def test_few_tokens_are_warned_about_many_are_not(tmp_path):
    few = card(WORDS * 50)
    assert few.encoding == "pasted"
    assert "memorize" in few.warning
    assert card(LONG).warning is None


def test_a_text_shorter_than_a_block_has_one(tmp_path):
    assert card(WORDS * 20, block_size=1024).blocks == 1


def test_a_file_is_read_once_and_its_tokens_are_kept(tmp_path, monkeypatch):
    """For one order to fine-tune the text was read three times."""
    path, folder = tmp_path / "file.txt", tmp_path / "tokens"
    path.write_text(LONG)
    text = open_text(path, None, Limits())
    opened, real = [], gpt2.text._open
    monkeypatch.setattr(gpt2.text, "_open", lambda file: opened.append(file) or real(file))
    summary = prepare_text(text, TOKENIZER, 256, folder)
    assert opened == [path]
    kept = open_corpus(folder, TOKENIZER)
    assert kept.train.tolist() == [*TOKENIZER.encode(LONG), TOKENIZER.end_of_text]
    assert (summary.tokens, summary.characters) == (len(kept.train) - 1, len(LONG))
    assert summary.first_blocks[0] == TOKENIZER.decode(TOKENIZER.encode(LONG)[:256])


def test_nothing_is_kept_of_a_text_that_is_refused(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("Too short.")
    with pytest.raises(UserError, match="fewer than"):
        prepare_text(open_text(path, None, Limits()), TOKENIZER, 256, tmp_path / "tokens")
    assert not (tmp_path / "tokens").exists()


@pytest.mark.parametrize("text", ["", " \n\t", None, 5, ["text"], "a\0" * 2000])
def test_a_pasted_text_is_a_text(text):
    with pytest.raises(UserError):
        card(text)


HOSTILE = ["^" * 1_000_000, "a" * 1_000_000, " end" * 300_000, "👩‍🚀" * 10_000, "e\u0301" * 9999]
# tiktoken panicked here, with an exception that `except Exception` does not catch.
BLANK = [LONG + " " * 1_500_000 + "end", LONG + "\n" * 1_200_000 + "end"]


@pytest.mark.parametrize("text", HOSTILE + BLANK)
def test_hostile_texts_take_no_time(text):
    assert card(text).characters == len(text)


def test_half_a_surrogate_pair_costs_that_character():
    """Pages do send them; the run that followed took the text anyway."""
    assert card(LONG + "\ud800").characters == len(LONG) + 1


def test_a_byte_too_many_is_too_many(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text(LONG)
    limits = Limits(text_bytes=len(LONG))
    assert card(path, limits=limits).tokens
    path.write_text(LONG + "x")
    for source in (path, LONG + "x"):
        with pytest.raises(UserError, match="larger than"):
            card(source, limits=limits)


def test_tables_need_their_column(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("id,story\n" + f'1,"{WORDS * 20}"\n' * 3)
    with pytest.raises(UserError, match="name its text column"):
        card(path)
    with pytest.raises(UserError, match="no column 'poem'"):
        card(path, column="poem")
    assert card(path, column="story").characters == 3 * len(WORDS * 20)


@pytest.mark.parametrize("name", ["text.xz", "text", "text.gz", "model.safetensors", "text.pdf"])
def test_other_kinds_of_files_are_refused_by_their_name(tmp_path, name):
    path = tmp_path / name
    path.write_text(LONG)
    with pytest.raises(UserError, match="name ends in"):
        check_file(path, Limits())


def test_only_ordinary_files_that_are_there_are_read(tmp_path):
    (tmp_path / "text.txt").write_text(LONG)
    (tmp_path / "link.txt").symlink_to(tmp_path / "text.txt")
    (tmp_path / "folder.txt").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    for name in ("link.txt", "folder.txt", "pipe.txt"):
        with pytest.raises(UserError, match="not an ordinary file"):
            card(tmp_path / name)
    for path in (tmp_path / "none.txt", tmp_path / ("n" * 300 + ".txt"), Path("../../x.txt")):
        with pytest.raises(UserError, match="not there"):
            card(path)
    with pytest.raises(UserError, match="not there"):
        card(Path("a\0.txt"))


def test_characters_that_a_model_does_not_know_are_named():
    with pytest.raises(UserError, match="U\\+0394"):
        card(WORDS * 20 + "Δ", CharacterTokenizer(sorted(set(WORDS))), 16)
