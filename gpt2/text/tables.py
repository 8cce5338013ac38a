"""Tables to the texts in one of their columns: .csv, .tsv, .json, .jsonl, .parquet."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt2.errors import UserError

TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")  # of characters
PARQUET = ".parquet"
_DELIMITERS = ",;\t|"
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass
class Table:
    """How a table is read, and what was seen in it."""

    name: str  # in messages
    kind: str  # one of `TABLES`, or `PARQUET`
    column: str | None = None
    empty: int = 0  # rows without a text
    halves: int = 0  # halves of surrogate pairs, which are dropped
    first_half: str = ""  # where
    columns: list[str] = field(default_factory=list)  # as far as they have been seen

    def texts(self, chunks: Iterable[str]) -> Iterator[str]:
        """The texts of a table of characters, in order; "" where a row has none."""
        for text, place in _READERS[self.kind](self, chunks):
            if not text.strip():
                self.empty += 1
            elif found := _SURROGATES.search(text):
                self.halves += len(_SURROGATES.findall(text))
                self.first_half = self.first_half or f"{place}, character {found.start() + 1}"
                text = _SURROGATES.sub("", text)
            yield text

    def texts_of_parquet(self, path: Path) -> Iterator[str]:
        """As `texts`."""
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise UserError(
                f"{self.name} is a Parquet file: reading it takes pyarrow (pip install pyarrow)."
            ) from None
        try:
            file = ParquetFile(path)
            kinds = {one.name: str(one.type) for one in file.schema_arrow}
            texts = ("string", "large_string", "string_view", "dictionary<values=string")
            column = self.choose([name for name in kinds if kinds[name].startswith(texts)])
            for batch in file.iter_batches(columns=[column]):
                for text in batch.column(0).to_pylist():
                    self.empty += not (text or "").strip()
                    yield text or ""
        except ArrowException as error:
            raise UserError(f"{self.name} cannot be read as Parquet: {error}.") from None

    @property
    def notes(self) -> Iterator[str]:
        if self.halves:
            count = (
                f"{self.halves} halves of surrogate pairs"
                if self.halves > 1
                else "half a surrogate pair"
            )
            yield f"{count} dropped, the first in {self.first_half}"
        if self.empty:
            yield f"{self.empty} row{'s' * (self.empty > 1)} without a text left out"

    def choose(self, columns: list[str], where: str = "") -> str:
        """The column to read. `UserError` says which there are."""
        self.columns = columns
        place = f"{self.name}, {where}," if where else self.name
        said = ", ".join(columns[:20]) or "none"
        if not self.column:
            raise UserError(f"{place} is a table: name its text column. It has: {said}.")
        if columns.count(self.column) != 1:
            which = "several columns" if self.column in columns else "no column"
            raise UserError(f"{place} has {which} {self.column!r}. It has: {said}.")
        return self.column


def _read_separated(table: Table, chunks: Iterable[str]) -> Iterator[tuple[str, str]]:
    csv.field_size_limit(1 << 30)
    lines = _Recorded(_lines(chunks))
    delimiter = _find_delimiter(table, lines.peek())
    rows = csv.reader(lines, delimiter=delimiter)
    index = None
    while True:
        first = lines.next_row()
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            raise UserError(f"{table.name}, line {first}, cannot be read: {error}.") from None
        _refuse_open_quote(table, row, first, lines.row, delimiter)
        if not row:
            continue
        if index is None:
            names = [name.strip() for name in row]
            index = names.index(table.choose(names))
            continue
        place = f"line {first}, column {table.column!r}"
        yield (row[index] if index < len(row) else ""), place
    if index is None:
        table.choose([])


class _Recorded:
    """Lines that are remembered while a row is made of them."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self._ahead = lines, []
        self.count, self.row = 0, []

    def peek(self) -> str:
        self._ahead = [next(self._lines, "")]
        return self._ahead[0]

    def next_row(self) -> int:
        """Forget the row; the number of the line at which the next one begins."""
        self.row = []
        return self.count + 1

    def __iter__(self) -> _Recorded:
        return self

    def __next__(self) -> str:
        line = self._ahead.pop() if self._ahead else next(self._lines)
        self.count += 1
        self.row.append(line)
        return line


def _find_delimiter(table: Table, header: str) -> str:
    """The one that makes the most columns of the header, the asked one among them."""

    def columns(delimiter: str) -> tuple[bool, int]:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        return table.column in names, len(names)

    usual = "\t,;|" if table.kind == ".tsv" else _DELIMITERS
    return max(usual, key=columns)


def _refuse_open_quote(
    table: Table, row: list[str], first: int, lines: list[str], delimiter: str
) -> None:
    """A quote that is never closed swallows all rows up to the next one, or to the end."""
    if len(lines) == 1 and lines[0].count('"') % 2 == 0:
        return
    try:
        list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        at_the_end = "end of data" in str(error)
        if len(lines) == 1 and not at_the_end:
            return  # untidy, but it took nothing from other rows
        broken = [index for index, cell in enumerate(row) if "\n" in cell]
        cell = broken[0] if broken and not at_the_end else len(row) - 1
        opened = first + sum(part.count("\n") for part in row[:cell])
        raise UserError(
            f"{table.name}, line {opened}, column {cell + 1}: a quote opens this cell and is not "
            f"closed at its end; the row goes on to line {first + len(lines) - 1}. Close it, or "
            'write quotes within a cell twice: "".'
        ) from None


def _read_json_lines(table: Table, chunks: Iterable[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(chunks), start=1):
        if line.strip():
            where = f"line {number}"
            yield _text_of(table, _parse_json(table, line, number), where)


def _read_json(table: Table, chunks: Iterable[str]) -> Iterator[tuple[str, str]]:
    """A list of records, in an object or alone; or, as many such files are, one to a line."""
    whole = "".join(chunks)
    first = whole.lstrip()[:1]
    try:
        value = json.loads(whole)
    except (ValueError, RecursionError) as error:
        if first == "{" and getattr(error, "msg", "") == "Extra data":
            yield from _read_json_lines(table, [whole])
            return
        raise _broken_json(table, error, 1) from None
    del whole
    if type(value) is dict:
        lists = [part for part in value.values() if type(part) is list]
        value = lists[0] if len(lists) == 1 and table.column not in value else [value]
    if type(value) is not list:
        raise UserError(f"{table.name} holds no list of texts or of objects.")
    for number, record in enumerate(value, start=1):
        yield _text_of(table, record, f"record {number}")


def _text_of(table: Table, record: Any, where: str) -> tuple[str, str]:
    """The text in a record, and its place in words."""
    if type(record) is str:
        if table.column:
            raise UserError(
                f"{table.name}, {where}, is a text without columns: leave out column "
                f"{table.column!r}."
            )
        return record, where
    if type(record) is not dict:
        raise UserError(f"{table.name}, {where}, is neither a text nor a JSON object.")
    texts = [name for name, value in record.items() if type(value) is str]
    if table.column not in record:
        table.choose(texts, where if table.column else "")
    table.columns = texts
    value = record[table.column]
    if value is not None and type(value) is not str:
        raise UserError(f"{table.name}, {where}: {table.column!r} is not a text.")
    return value or "", f"{where}, field {table.column!r}"


def _parse_json(table: Table, line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _broken_json(table, error, number) from None


def _broken_json(table: Table, error: Exception, line: int) -> UserError:
    if not isinstance(error, json.JSONDecodeError):
        return UserError(
            f"{table.name}, line {line}, is nested too deeply or has a number too long."
        )
    line += error.lineno - 1
    return UserError(
        f"{table.name}, line {line}, column {error.colno}, is not a JSON object: {error.msg}."
    )


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """Lines with their "\\n"; no other sign ends one, as some are part of JSON's strings."""
    begun: list[str] = []
    for chunk in chunks:
        *whole, rest = chunk.split("\n")
        for line in whole:
            yield "".join((*begun, line, "\n"))
            begun = []
        begun.append(rest)
    if last := "".join(begun):
        yield last


_READERS: dict[str, Callable[[Table, Iterable[str]], Iterator[tuple[str, str]]]] = {
    ".csv": _read_separated,
    ".tsv": _read_separated,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}
