"""Texts to documents: marks, pieces, folders and patterns."""

from __future__ import annotations

import random

import pytest

from gpt2.errors import UserError
from gpt2.text import PastedText, TextFile, documents, open_texts, read_documents
from gpt2.tokenizer import gpt2_tokenizer

# How people part their texts, and what is then in each.
PARTED = [
    ("one\n<|endoftext|>\ntwo\n<|endoftext|>\n<|endoftext|>\n", ["one\n", "two\n"]),
    ("one\n<|endoftext|> \ntwo\n", ["one\n", "two\n"]),
    ("one\n \t<|endoftext|>\t\ntwo\n", ["one\n", "two\n"]),
    ("one\r\n<|endoftext|>\r\ntwo\r\n", ["one\n", "two\n"]),
    ("one<|endoftext|>two<|endoftext|>", ["one", "two"]),
    ("one<|endoftext|>\ntwo<|endoftext|>\n", ["one", "two"]),
    ("one <|endoftext|> still\n", ["one ", " still\n"]),
    ("<|startoftext|>one<|endoftext|>\n" * 3, ["one"] * 3),
    ("<|startoftext|>\none\n<|endoftext|>\n\n<|startoftext|>\ntwo\n", ["one\n", "two\n"]),
    ("<|startoftext|>one\n<|startoftext|>two\n", ["one\n", "two\n"]),
    ("<|endoftext|>\n  verse\n    deeper\n", ["  verse\n    deeper\n"]),
    ("a <| b <|endoftex|> c < |endoftext|>", ["a <| b <|endoftex|> c < |endoftext|>"]),
    (" \n\t\n", []),
    ("<|endoftext|>", []),
]


@pytest.mark.parametrize("size", [1 << 20, 7, 1])
@pytest.mark.parametrize(("text", "parts"), PARTED)
def test_marks_part_documents_wherever_they_stand(tmp_path, monkeypatch, text, parts, size):
    """Those within a line were learned as letters; so was one that a blank followed."""
    monkeypatch.setattr(documents, "_PIECE_CHARACTERS", size)
    file = tmp_path / "a.txt"
    file.write_text(text, encoding="utf-8", newline="")
    assert list(read_documents(TextFile(file))) == parts
    assert list(read_documents(PastedText(text))) == parts


def test_marks_are_counted_in_the_notes(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("<|startoftext|>one<|endoftext|>\n" * 3)
    text = TextFile(file)
    for _ in range(2):  # reading again does not count again
        list(text.pieces())
        assert text.notes == ("documents are parted at 3 <|endoftext|> and 3 <|startoftext|>",)


def test_marks_in_the_cells_of_a_table_part_them_too(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("text\n<|startoftext|>one<|endoftext|>\ntwo<|endoftext|>three\n")
    assert list(read_documents(TextFile(file, "text"))) == ["one", "two", "three"]


def test_tokens_of_the_pieces_are_the_tokens_of_the_whole(tmp_path, monkeypatch):
    """Cut at the wrong place, words or runs of spaces would fall into other tokens."""
    monkeypatch.setattr(documents, "_PIECE_CHARACTERS", 200)
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
    monkeypatch.setattr(documents, "_PIECE_CHARACTERS", 200)
    monkeypatch.setattr(documents, "_LONGEST_PIECE", 1000)
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


def test_a_mark_in_a_very_long_word_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "_PIECE_CHARACTERS", 50)
    monkeypatch.setattr(documents, "_LONGEST_PIECE", 100)
    file = tmp_path / "a.txt"
    for length in range(80, 120):
        file.write_text("x" * length + "<|endoftext|>" + "y" * 300)
        assert list(read_documents(TextFile(file))) == ["x" * length, "y" * 300]


def names_of(*places, column=None):
    texts, notes = open_texts([*places], column)
    return [text.name for text in texts], notes


@pytest.fixture
def library(tmp_path):
    """A folder as people have them."""
    folder = tmp_path / "books"
    (folder / "more").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("b.txt", "a.txt", "more/c.MD", "d.csv", ".hidden.txt", ".git/x.txt", "p.png", "q"):
        (folder / name).write_text("text\nwords\n")
    (folder / "empty.txt").touch()
    return folder


def test_a_folder_is_its_texts_in_order_and_what_was_left_out_is_told(library):
    names, notes = names_of(library, column="text")
    assert names == ["a.txt", "b.txt", "d.csv", "c.MD"]
    assert notes == (
        f"{library}: 4 files; left out: 1 .png, 1 empty, 1 hidden, 1 without an ending",
    )


def test_a_pattern_that_the_shell_left_is_expanded(library):
    assert names_of(library / "*.txt")[0] == ["a.txt", "b.txt"]
    assert names_of(library / "**" / "*.MD")[0] == ["c.MD"]
    (library / "odd [1].txt").write_text("words")  # a name, not a pattern
    assert names_of(library / "odd [1].txt") == (["odd [1].txt"], ())


def test_a_file_that_is_named_twice_is_read_once(library):
    names, notes = names_of(library / "a.txt", library / "*.txt", library / "more" / ".." / "a.txt")
    assert names == ["a.txt", "b.txt"]
    assert "2 files were named twice and are read once" in notes


def test_files_of_one_name_in_two_folders_are_told_apart(library):
    (library / "more" / "a.txt").write_text("words")
    names, _ = names_of(library / "a.txt", library / "more" / "a.txt")
    assert names == [str(library / "a.txt"), str(library / "more" / "a.txt")]


def test_where_there_is_nothing_to_read_one_is_told(library, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"x")
    (tmp_path / "nothing").mkdir()
    for place, message in (
        ("pictures", "folder .* has no text file .* left out: 1 .png"),
        ("nothing", "left out: nothing, it is empty"),
        ("*.csv", "pattern .* has no text file"),
        ("none.txt", "There is no file"),
        ("n" * 300, "There is no file"),
        ("n\0", "There is no file"),
    ):
        with pytest.raises(UserError, match=message):
            open_texts([tmp_path / place])
    with pytest.raises(UserError, match="neither a file nor a folder"):
        open_texts([type(tmp_path)("/dev/null")])


def test_what_would_have_no_effect_is_refused(library):
    with pytest.raises(UserError, match=r"a\.txt is plain text, which has no columns"):
        open_texts([library / "a.txt"], "text")
    with pytest.raises(UserError, match="Each of these files is plain text"):
        open_texts([library / "*.txt"], "text")
    (library / "t.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match="always UTF-8"):
        open_texts([library / "t.parquet"], "text", "cp1252")
