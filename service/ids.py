"""Random ids of 128 bits: of runs, where the id is the capability, and of visitors."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable

_ID = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    return secrets.token_hex(16)


def is_id(value: object) -> bool:
    """Whether `value` has an id's form; only then may it become a path or be looked up."""
    return type(value) is str and _ID.fullmatch(value) is not None


def find_id(value: object, known: Iterable[str]) -> str | None:
    """The known id that `value` is. All are compared, each in constant time, so that the time of
    an answer says nothing about how near a guess was."""
    found = None
    if is_id(value):
        for one in known:
            if hmac.compare_digest(one, value):
                found = one
    return found


def digest(owner: object) -> str | None:
    """What is kept of a visitor's id, None for what is none: who reads the disk cannot become
    them."""
    return hashlib.sha256(owner.encode()).hexdigest() if is_id(owner) else None
