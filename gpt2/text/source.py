"""What to learn from or to score: files and pasted texts, each read once, as documents."""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from gpt2.errors import UserError
from gpt2.text.documents import Documents
from gpt2.text.encoding import Characters, EncodingUnclear, check_encoding
from gpt2.text.tables import PARQUET, TABLES, Table


class Text(Protocol):
    """Documents to learn from or to score, wherever they come from."""

    name: str
    bytes: int  # about how many there are
    encoding: str  # as far as it is known: surely when all has been read
    notes: tuple[str, ...]  # what was seen, in words; whole when all has been read

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """(piece, whether it ends its document), in pieces of about a megabyte."""


class TextFile:
    """A text file, plain or a table, of which every row's `column` is a document. Marks such as
    "<|endoftext|>" part documents in both. A file .xz is unpacked. The encoding is found where it
    is not given. `UserError` when it cannot be read."""

    def __init__(
        self,
        path: str | Path,
        column: str | None = None,
        encoding: str | None = None,
        name: str | None = None,
    ) -> None:
        self.path, self.column, self._given = Path(path), column, check_encoding(encoding)
        # A file's name may hold bytes that no report can be written with.
        self.name = os.fsencode(name or self.path.name).decode("utf-8", errors="replace")
        self.kind = kind_of(self.path)
        try:
            self.bytes = self.path.stat().st_size
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path} cannot be read: {error}.") from None
        self._restart()

    def _restart(self) -> None:
        self._documents = Documents()
        self._table = Table(str(self.path), self.kind, self.column) if self.kind else None
        self._characters: Characters | None = None

    def pieces(self) -> Iterator[tuple[str, bool]]:
        self._restart()
        try:
            for chunks in self._parts():
                yield from self._documents.pieces(chunks)
        except (OSError, EOFError, UnicodeError, lzma.LZMAError) as error:
            raise UserError(f"{self.path} cannot be read: {error}.") from None

    def _parts(self) -> Iterator[Iterable[str]]:
        """What is a document of its own, or several, in chunks."""
        if self._table and self.kind == PARQUET:
            yield from ([text] for text in self._table.texts_of_parquet(self.path))
            return
        with _open(self.path) as file:
            self._characters = Characters(file, str(self.path), self._given)
            if self._table:
                yield from ([text] for text in self._table.texts(self._characters))
            else:
                yield self._characters

    @property
    def encoding(self) -> str:
        return self._characters.encoding if self._characters else self._given or "utf-8"

    @property
    def columns(self) -> tuple[str, ...]:
        """Of a table: those that may be read, as far as it has been read."""
        return tuple(self._table.columns) if self._table else ()

    @property
    def notes(self) -> tuple[str, ...]:
        return (
            *(self._characters.notes if self._characters else ()),
            *(self._table.notes if self._table else ()),
            *self._documents.notes,
        )


class PastedText:
    """A text that is in memory already."""

    name = encoding = "pasted"

    def __init__(self, text: str) -> None:
        self.text = text
        self._documents = Documents()

    @property
    def bytes(self) -> int:
        return len(self.text)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._documents.notes)

    def pieces(self) -> Iterator[tuple[str, bool]]:
        self._documents = Documents()
        # Half a surrogate pair, which pages do send, ends nothing.
        text = self.text.encode("utf-8", errors="replace").decode("utf-8")
        yield from self._documents.pieces([text.replace("\r\n", "\n").replace("\r", "\n")])


def read_documents(*texts: Text) -> Iterator[str]:
    """The documents of texts, each whole."""
    parts: list[str] = []
    for text in texts:
        for piece, last in text.pieces():
            parts.append(piece)
            if last:
                yield "".join(parts)
                parts = []


def read_columns(path: Path) -> tuple[str, ...]:
    """The columns of a table that may be read, by its beginning; none of a text or a table that is
    broken. Their names are hardly ever in letters that another encoding would change."""
    columns: tuple[str, ...] = ()
    for encoding in (None, "cp1252"):
        try:
            text = TextFile(path, encoding=encoding)
            next(text.pieces(), None)
        except EncodingUnclear:
            continue
        except UserError:  # among others: that the column is to be named
            pass
        columns = text.columns
        break
    return tuple(name for name in columns if name)


def kind_of(path: Path) -> str:
    """The kind of table that a file's name says, ".csv" say; "" for plain text."""
    kind = _unpacked(path).suffix.lower()
    return kind if kind in TABLES or path.suffix.lower() == PARQUET else ""


def _unpacked(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == ".xz" else path


def _open(path: Path) -> BinaryIO:
    return lzma.open(path) if _unpacked(path) != path else open(path, "rb")
