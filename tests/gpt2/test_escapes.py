"""Escapes that a person types, and that our own command lines are written with."""

from __future__ import annotations

import random
import sys

import pytest

from gpt2.errors import UserError
from gpt2.escapes import escape, unescape


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (r"\n", "\n"),
        (r"a\tb\r\n", "a\tb\r\n"),
        (r"\\n", r"\n"),
        (r"\\\n", "\\\n"),
        (r"\x41\xe9", "Aé"),
        (r"\u00e9\u2028", "é\u2028"),
        (r"\U0001f600", "😀"),
        (r"\ud83d\ude00", "😀"),
        (r"\d \N \X41 \x4 \u12 \U00110000", r"\d \N \X41 \x4 \u12 \U00110000"),
        ("\\", "\\"),
        (r"C:\Users", r"C:\Users"),
        ("---", "---"),
        ("\ufeffa", "\ufeffa"),
        ("", ""),
    ],
    ids=ascii,
)
def test_what_is_typed_and_what_is_meant(typed, meant):
    assert unescape(typed) == meant


def test_half_a_character_is_refused():
    with pytest.raises(UserError, match="half a surrogate pair"):
        unescape(r"a\ud83d")
    assert unescape("\ud83d") == "\ud83d"  # nobody escaped it: for its reader to refuse


def test_any_text_is_escaped_printable_and_comes_back():
    choose = random.Random(1)
    for _ in range(500):
        codes = [choose.choice([choose.randrange(256), choose.randrange(sys.maxunicode)])
                 for _ in range(choose.randint(0, 12))]  # fmt: skip
        text = "".join(choose.choice(["\\", "n", "x41", chr(code)]) for code in codes)
        text = text.encode("utf-8", "ignore").decode()
        assert unescape(escape(text)) == text
        assert escape(text).isprintable()
