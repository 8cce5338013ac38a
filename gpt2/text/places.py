"""From what a person names, files, folders and patterns, to the texts in them."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpt2.errors import UserError
from gpt2.text.source import TextFile, kind_of
from gpt2.text.tables import PARQUET, TABLES

# What is taken from a folder. A file that is named itself may have any name.
SUPPORTED = (".txt", ".md", ".text", *TABLES, PARQUET)


def open_texts(
    places: Sequence[Path], column: str | None = None, encoding: str | None = None
) -> tuple[list[TextFile], tuple[str, ...]]:
    """The texts of files, folders and patterns, each file once, and what the user should know of
    the choice. `UserError` where there are none, and for a `column` or an `encoding` that would
    have no effect on any of them."""
    found: dict[str, Path] = {}  # by where it really is
    names: Counter[str] = Counter()
    notes: list[str] = []
    twice = 0
    for place in places:
        paths, left_out = _expand(place)
        for path in paths:
            real = os.path.realpath(path)
            twice += real in found
            found.setdefault(real, path)
        if paths != [place]:
            skipped = ", ".join(f"{count} {why}" for why, count in sorted(left_out.items()))
            notes.append(f"{place}: {len(paths)} files{skipped and f'; left out: {skipped}'}")
    if twice:
        notes.append(f"{twice} files were named twice and are read once")
    paths = list(found.values())
    refuse_idle(paths, column, encoding)
    names.update(path.name for path in paths)
    texts = [
        TextFile(
            path,
            column if kind_of(path) else None,
            encoding if kind_of(path) != PARQUET else None,
            path.name if names[path.name] == 1 else path.as_posix(),
        )
        for path in paths
    ]
    return texts, tuple(notes)


def refuse_idle(paths: Sequence[Path], column: str | None, encoding: str | None) -> None:
    """`UserError` for a column or an encoding that none of these files has a use for."""
    said = str(paths[0]) if len(paths) == 1 else "Each of these files"
    if column and not any(map(kind_of, paths)):
        raise UserError(
            f"{said} is plain text, which has no columns: leave out column {column!r}. Tables are "
            f"{', '.join((*TABLES, PARQUET))}."
        )
    if encoding and all(kind_of(path) == PARQUET for path in paths):
        raise UserError(f"{said} is always UTF-8 within: leave out encoding {encoding!r}.")


def _expand(place: Path) -> tuple[list[Path], Counter[str]]:
    """The files of one place, sorted, and why how many others were left out."""
    left_out: Counter[str] = Counter()
    if os.path.isfile(place):  # whatever its name, brackets and stars too
        return [place], left_out
    anything = False
    if os.path.isdir(place):
        candidates = list(_walk(place))
    elif glob.has_magic(str(place)):
        candidates = [Path(one) for one in glob.glob(str(place), recursive=True)]
        anything = bool(place.suffix) and not glob.has_magic(place.suffix)
    elif os.path.exists(place):
        raise UserError(f"{place} is neither a file nor a folder.")
    else:
        raise UserError(f"There is no file {place}.")
    chosen = []
    for path in sorted(candidates):
        if why := _left_out(path, anything):
            left_out[why] += 1
        else:
            chosen.append(path)
    if not chosen:
        what = "folder" if os.path.isdir(place) else "pattern"
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(left_out.items()))
        raise UserError(
            f"The {what} {place} has no text file ({', '.join(SUPPORTED)}, also .xz); "
            f"left out: {reasons or 'nothing, it is empty'}."
        )
    return chosen, left_out


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names)


def _left_out(path: Path, anything: bool) -> str | None:
    """Why a file is not read, in a word; `anything`: its kind was asked for by name."""
    if path.name.startswith("."):
        return "hidden"
    if not path.is_file():
        return "not files"
    if not path.stat().st_size:
        return "empty"
    kind = path.with_suffix("") if path.suffix.lower() == ".xz" else path
    if anything or kind.suffix.lower() in SUPPORTED:
        return None
    return path.suffix.lower() or "without an ending"
