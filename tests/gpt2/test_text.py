"""Files to documents: encodings, tables, pieces."""

from __future__ import annotations

import json
import lzma
import random

import pytest

from gpt2 import text as text_module
from gpt2.errors import UserError
from gpt2.text import TextFile, find_encoding, read_documents
from gpt2.tokenizer import gpt2_tokenizer


def test_documents_are_parted_by_lines_of_end_of_text(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text(
        "one\n<|endoftext|>\ntwo <|endoftext|> still two\n<|endoftext|>\n<|endoftext|>\n"
    )
    assert list(read_documents(TextFile(file))) == ["one\n", "two <|endoftext|> still two\n"]


@pytest.mark.parametrize(
    ("encoding", "found"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("cp1252", "cp1252")],
)
def test_the_encoding_is_found_out(tmp_path, encoding, found):
    file = tmp_path / "a.txt"
    file.write_bytes("Müller, “naïve” café\n".encode(encoding))
    assert find_encoding(file) == found
    assert list(read_documents(TextFile(file))) == ["Müller, “naïve” café\n"]


def test_latin_text_after_a_megabyte_of_ascii_is_still_found_out(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"plain " * 200_000 + "café".encode("cp1252"))
    assert next(read_documents(TextFile(file))).endswith("café")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    for name, content in (("a.png", b"\x89PNG\r\n\x1a\n\0\0"), ("a.xz", b"not xz at all")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            list(read_documents(TextFile(tmp_path / name)))
    with pytest.raises(UserError, match="cannot be read"):
        list(read_documents(TextFile(tmp_path / "missing.txt")))


def test_tables_are_read_by_their_named_column(tmp_path):
    rows = [{"id": "1", "text": "first\nwith a line"}, {"id": "2", "text": "second, with a comma"}]
    table = tmp_path / "a.csv"
    table.write_text('id,text\n1,"first\nwith a line"\n2,"second, with a comma"\n')
    lines = tmp_path / "a.JSONL.XZ"  # whatever the case
    lines.write_bytes(lzma.compress("\n".join(map(json.dumps, rows)).encode()))
    for path in (table, lines):
        assert list(read_documents(TextFile(path, "text"))) == [row["text"] for row in rows]
        with pytest.raises(UserError, match=r"name its text column.*id, text"):
            list(read_documents(TextFile(path)))
        with pytest.raises(UserError, match="no column 'body'"):
            list(read_documents(TextFile(path, "body")))


def test_a_broken_line_of_a_table_is_named(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "fine"}\n{"text": 3}\n')
    with pytest.raises(UserError, match="line 2"):
        list(read_documents(TextFile(file, "text")))


def test_tokens_of_the_pieces_are_the_tokens_of_the_whole(tmp_path, monkeypatch):
    """Cut at the wrong place, words or runs of spaces would fall into other tokens."""
    monkeypatch.setattr(text_module, "_PIECE_CHARACTERS", 200)
    tokenizer = gpt2_tokenizer()
    choose = random.Random(0)
    words = [
        "don't",
        "  two",
        "\n\n",
        "\t",
        "3.14",
        "Ünï",
        " \n ",
        "!!",
        "the",
        "\u3000\n",
        "\x1c\n",
        "x\n",
    ]
    for trial in range(20):
        text = "".join(choose.choice(words) for _ in range(2000))
        file = tmp_path / f"{trial}.txt"
        file.write_text(text, encoding="utf-8", newline="")
        pieces = list(TextFile(file).pieces())
        assert len(pieces) > 5
        assert [last for _, last in pieces] == [False] * (len(pieces) - 1) + [True]
        joined = [index for piece, _ in pieces for index in tokenizer.encode(piece)]
        assert joined == tokenizer.encode("".join(piece for piece, _ in pieces))


def test_a_long_line_is_cut_at_its_spaces_and_one_word_is_bounded(tmp_path, monkeypatch):
    """A book saved as one line was held whole, and joined anew for every further megabyte."""
    monkeypatch.setattr(text_module, "_PIECE_CHARACTERS", 200)
    monkeypatch.setattr(text_module, "_LONGEST_PIECE", 1000)
    tokenizer = gpt2_tokenizer()
    file = tmp_path / "line.txt"
    for text in ("once upon  a time, and twice " * 100, "x" * 4321, "\u3000" * 2500):
        file.write_text(text, encoding="utf-8")
        pieces = [piece for piece, _ in TextFile(file).pieces()]
        assert "".join(pieces) == text
        assert max(map(len, pieces)) <= (400 if " " in text else 1200)
    file.write_text(text := "once upon  a time, and twice " * 100)
    joined = [index for piece, _ in TextFile(file).pieces() for index in tokenizer.encode(piece)]
    assert joined == tokenizer.encode(text)
