"""Records on disk: a JSON object read into a dataclass, whatever its file holds.

Files are damaged by power cuts, full disks and older versions. Read once, here, into a typed value,
a damaged file is a record of defaults, or none; nothing that uses it has to look again.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from gpt2.errors import UserError
from gpt2.files import read_json
from gpt2.settings import is_whole_text

Record = TypeVar("Record")
_MAX_WHOLE = 2**63  # beyond, it is no count of anything
_UNFIT = object()


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """As `parse_record`, of the object in a JSON file; of an empty one where it cannot be read."""
    try:
        # Not a folder, and nothing that one would wait for, such as a pipe.
        return parse_record(kind, read_json(path) if os.path.isfile(path) else {})
    except UserError:
        return parse_record(kind, {})


def parse_record(kind: type[Record], value: object) -> Record | None:
    """A dataclass from a JSON value. What is missing or of another type takes its default; None
    where a field has none. Numbers are finite, texts can be written as UTF-8."""
    given = value if type(value) is dict else {}
    found: dict[str, Any] = {}
    for name, hint, required in _fields(kind):
        part = _fit(hint, given.get(name, _UNFIT))
        if part is not _UNFIT:
            found[name] = part
        elif required:
            return None
    return kind(**found)


@functools.cache
def _fields(kind: type) -> tuple[tuple[str, Any, bool], ...]:
    """Name, type and whether it is required, of each field of a dataclass."""
    hints, missing = typing.get_type_hints(kind), dataclasses.MISSING
    return tuple(
        (field.name, hints[field.name], field.default is missing is field.default_factory)
        for field in dataclasses.fields(kind)
    )


def _fit(hint: Any, value: object) -> Any:
    """`value` as a field of the type `hint` holds it, or `_UNFIT`."""
    if (check := _PLAIN.get(hint)) is not None:
        return check(value)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _fit_optional(parts, value)
    if origin is tuple:
        return _fit_list(parts[0], value)
    if origin is dict and type(value) is dict:
        fitted = {name: _fit(parts[1], part) for name, part in value.items()}
        return _UNFIT if any(part is _UNFIT for part in fitted.values()) else fitted
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next((one for one in hint if one.value == value), _UNFIT)
    return _UNFIT


def _fit_optional(parts: tuple[Any, ...], value: object) -> Any:
    # A loss that is not finite was not measured.
    if value is None or (type(value) is float and not math.isfinite(value)):
        return None
    fitted = (_fit(part, value) for part in parts if part is not types.NoneType)
    return next((part for part in fitted if part is not _UNFIT), _UNFIT)


def _fit_list(kind: Any, value: object) -> Any:
    if type(value) is not list:
        return _UNFIT
    fitted = tuple(_fit(kind, part) for part in value)
    return _UNFIT if any(part is _UNFIT for part in fitted) else fitted


def _fit_bool(value: object) -> Any:
    return value if type(value) is bool else _UNFIT


def _fit_whole(value: object) -> Any:
    return value if type(value) is int and abs(value) <= _MAX_WHOLE else _UNFIT


def _fit_number(value: object) -> Any:
    if type(value) is int:
        value = float(value) if abs(value) <= _MAX_WHOLE else math.inf
    return value if type(value) is float and math.isfinite(value) else _UNFIT


def _fit_text(value: object) -> Any:
    return value if type(value) is str and is_whole_text(value) else _UNFIT


_PLAIN = {bool: _fit_bool, int: _fit_whole, float: _fit_number, str: _fit_text}
