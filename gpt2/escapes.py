r"""Escapes where a person types a text on one line: \n is a line break, \t a tab, \\ a backslash.

Also \r, \xNN, \uNNNN and \UNNNNNNNN by code point. Any other backslash stands for itself.
"""

from __future__ import annotations

import re

from gpt2.errors import UserError

_NAMED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_NAMES = {character: f"\\{name}" for name, character in _NAMED.items()}
_ESCAPE = re.compile(
    r"\\(?:([ntr\\])|x([H]{2})|u([H]{4})|U(000[H]{5}|0010[H]{4}))".replace("H", "0-9a-fA-F")
)


def unescape(text: str) -> str:
    """The text that was meant. `UserError` for the escape of half a character alone."""
    meant = _ESCAPE.sub(_character, text)
    if meant == text:
        return text
    try:  # two escapes for the halves of one character, as JSON has them
        return meant.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise UserError(f"{text!r} holds half a surrogate pair, not a character.") from None


def escape(text: str) -> str:
    """On one line and printable; `unescape` gives the text back."""
    return "".join(_NAMES.get(character) or _printable(character) for character in text)


def _character(found: re.Match) -> str:
    name, *codes = found.groups()
    return _NAMED[name] if name else chr(int(next(filter(None, codes)), 16))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\U{code:08x}"
