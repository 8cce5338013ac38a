"""Text files to documents: encodings found out, tables by a named column, read as they go."""

from __future__ import annotations

import codecs
import csv
import io
import json
import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

from gpt2.errors import UserError
from gpt2.tokenizer import END_OF_TEXT

_CHUNK_BYTES = 1 << 20
_PIECE_CHARACTERS = 1 << 20
_LONGEST_PIECE = 1 << 24  # of a text without white space, which is then cut anywhere
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Text(Protocol):
    """Documents to learn from or to score, wherever they come from."""

    name: str
    encoding: str
    bytes: int  # about how many there are

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """(piece, whether it ends its document), in pieces of about a megabyte."""


class TextFile:
    """A text file. Of .csv and .jsonl every row's `column` is a document; in any other text, lines
    "<|endoftext|>" part them. A file .xz is unpacked. `UserError` when it cannot be read."""

    def __init__(self, path: str | Path, column: str | None = None) -> None:
        self.path, self.column = Path(path), column
        self.name = self.path.name
        self.encoding = find_encoding(self.path)
        self.bytes = self.path.stat().st_size

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """As `Text.pieces`. Pieces are cut before white space, where tokenizing them one by one
        gives the same tokens as the whole."""
        path, column, kind = self.path, self.column, _unpacked(self.path).suffix.lower()
        newline = "" if kind == ".csv" else None
        try:
            with io.TextIOWrapper(_open(path), self.encoding, newline=newline) as file:
                if kind == ".csv":
                    yield from ((text, True) for text in _csv_rows(file, path, column))
                elif kind in (".jsonl", ".ndjson"):
                    yield from ((text, True) for text in _json_rows(file, path, column))
                else:
                    yield from _text_pieces(iter(lambda: file.readline(_PIECE_CHARACTERS), ""))
        except (OSError, EOFError, UnicodeError, lzma.LZMAError, csv.Error) as error:
            raise UserError(f"{path} cannot be read as {self.encoding} text: {error}.") from None


@dataclass(frozen=True)
class PastedText:
    """A text that is in memory already: one document."""

    text: str
    name: str = "pasted"
    encoding: str = "pasted"

    @property
    def bytes(self) -> int:
        return len(self.text)

    def pieces(self) -> Iterator[tuple[str, bool]]:
        # Half a surrogate pair, which pages do send, ends nothing.
        yield self.text.encode("utf-8", errors="replace").decode("utf-8"), True


def read_documents(text: Text) -> Iterator[str]:
    """The documents of a text, each whole."""
    parts: list[str] = []
    for piece, last in text.pieces():
        parts.append(piece)
        if last:
            yield "".join(parts)
            parts = []


def find_encoding(path: Path) -> str:
    """ "utf-8-sig" and "utf-16" by their marks, "utf-8" if all of it is, else "cp1252"."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with _open(path) as file:
            chunk = file.read(_CHUNK_BYTES)
            for mark, encoding in _BOMS.items():
                if chunk.startswith(mark):
                    return encoding
            while chunk:
                if b"\0" in chunk:
                    raise UserError(f"{path} holds zero bytes: it is not text. Save it as UTF-8.")
                decoder.decode(chunk)
                chunk = file.read(_CHUNK_BYTES)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    return "utf-8"


def _unpacked(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == ".xz" else path


def _open(path: Path) -> BinaryIO:
    return lzma.open(path) if _unpacked(path) != path else open(path, "rb")


def _text_pieces(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    parts: list[str] = []
    size = 0
    for line in lines:
        if line.rstrip("\n") == END_OF_TEXT:
            if parts:
                yield "".join(parts), True
            parts, size = [], 0
            continue
        parts.append(line)
        size += len(line)
        if size >= _PIECE_CHARACTERS:
            text = "".join(parts)
            cut = _last_cut(text) or (size if size >= _LONGEST_PIECE else 0)
            if cut:
                yield text[:cut], False
            parts = [text[cut:]] if cut < size else []
            size -= cut
    if parts:
        yield "".join(parts), True


def _last_cut(text: str) -> int:
    """Where the last run of white space begins; 0 if there is none to cut before."""
    end = max(text.rfind(space) for space in " \t\n") + 1
    cut = len(text[:end].rstrip(" \t\n"))
    return 0 if text[:cut][-1:].isspace() else cut


def _csv_rows(file: TextIO, path: Path, column: str | None) -> Iterator[str]:
    csv.field_size_limit(1 << 30)
    rows = csv.DictReader(file)
    names = rows.fieldnames or []
    _check_column(path, column, list(names))
    yield from (row[column] for row in rows if row[column])


def _json_rows(file: TextIO, path: Path, column: str | None) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if type(row) is not dict:
            raise UserError(f"{path}, line {number}, is not a JSON object.")
        _check_column(path, column, list(row))
        if type(row[column]) is not str:
            raise UserError(f"{path}, line {number}: {column!r} is not a text.")
        if row[column]:
            yield row[column]


def _check_column(path: Path, column: str | None, names: list[str]) -> None:
    if column not in names:
        which = f"has no column {column!r}" if column else "is a table: name its text column"
        raise UserError(f"{path} {which}. It has: {', '.join(map(str, names[:20])) or 'none'}.")
