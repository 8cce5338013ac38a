"""Random 128-bit ids: for runs, where the id is the capability, and for visitors."""

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
    """Whether `value` looks like an id; only then may it become a path or be looked up."""
    return type(value) is str and _ID.fullmatch(value) is not None


def find_id(value: object, known: Iterable[str]) -> str | None:
    """The known id that equals `value`. All are compared, each in constant time, so that the
    response time says nothing about how close a guess was."""
    found = None
    if is_id(value):
        for one in known:
            if hmac.compare_digest(one, value):
                found = one
    return found


def digest(owner: object) -> str | None:
    """What is stored of a visitor's id, so that nobody who reads the disk can become them. None
    if `owner` is not an id."""
    return hashlib.sha256(owner.encode()).hexdigest() if is_id(owner) else None
