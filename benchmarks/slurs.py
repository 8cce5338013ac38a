"""Whether a text has a word from a list that nobody needs to read.

slurs.txt contains hashes, not words: a plain list of slurs helps no reader of this repository and
turns up in every search of it. A line is the SHA-256 of one word, case-folded, in UTF-8; to ask
about a word, or to add one, hash it. Listed are ethnic and homophobic slurs, dated ones
included, that have no innocent sense in old books; a faggot of sticks or a chink in a wall
cannot be told from the slur by the word alone, so such words are checked by eye.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

LIST = Path(__file__).with_name("slurs.txt")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def listed_hashes() -> frozenset[str]:
    lines = LIST.read_text(encoding="ascii").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def listed_words(text: str, hashes: frozenset[str]) -> list[str]:
    """The listed words in `text`: whole words, alone or as part of a hyphenated one."""
    found = []
    for compound in _WORD.findall(text.casefold()):
        for word in dict.fromkeys((compound, *compound.split("-"))):
            if word_hash(word) in hashes:
                found.append(word)
    return found


def word_hash(word: str) -> str:
    return hashlib.sha256(word.casefold().encode("utf-8")).hexdigest()
