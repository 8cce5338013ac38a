"""The card of a text, and every file that is not a text."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import tempfile
import zlib
from pathlib import Path

import pytest

from gpt2.errors import UserError
from gpt2.text import EncodingUnclear
from gpt2.text import source as source_module
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
        (b"text " * 500 + b"\0" * 500 + b"text " * 500, "zero bytes"),
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
        ("utf-16-le", "utf-16-le", LONG),
        ("utf-32", "utf-32", LONG + "灯台"),
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
    assert ("choose its encoding" in (described.warning or "")) == (found == "cp1252")
    assert (f"read as {found}" in " ".join(described.notes)) == (found != "utf-8")


def test_utf8_cut_within_a_character_costs_that_character(tmp_path):
    """It was read as Windows-1252, and so was every other such letter in it."""
    path = tmp_path / "file.txt"
    path.write_bytes((LONG + "灯台").encode()[:-1])
    found = card(path)
    assert found.encoding == "utf-8"
    assert found.characters == len(LONG) + 1
    assert found.notes == ("2 bytes are not of utf-8, dropped; the first is byte 124,003",)
    assert found.warning is None


def test_what_has_no_effect_is_refused(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text(LONG)
    with pytest.raises(UserError, match=r"^The file is plain text, which has no columns"):
        card(path, column="text")
    with pytest.raises(UserError, match="pasted text has no column"):
        card(LONG, column="text")


def test_an_encoding_that_is_not_certain_is_asked_for_and_taken(tmp_path):
    words = "Příliš žluťoučký kůň úpěl ďábelské ódy. " * 100
    path = tmp_path / "file.txt"
    path.write_bytes(words.encode("cp852"))
    with pytest.raises(EncodingUnclear, match=r"^The file is not UTF-8.*Encoding on the page"):
        card(path)
    found = summarize_text(open_text(path, None, LIMITS, "cp852"), TOKENIZER, 256)
    assert found.characters == len(words)
    assert words.startswith(found.first_blocks[0][:100])


def test_documents_are_counted_and_their_marks_told():
    found = card(f"<|startoftext|>{WORDS * 10}<|endoftext|>\n" * 8)
    assert found.documents == 8
    assert found.characters == 8 * 10 * len(WORDS)
    assert found.notes == ("documents are parted at 8 <|endoftext|> and 8 <|startoftext|>",)


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
    opened, real = [], source_module._open
    monkeypatch.setattr(source_module, "_open", lambda file: opened.append(file) or real(file))
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
