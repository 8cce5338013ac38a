"""A text of books without its headings, as the storyteller is trained on it.

Headings stand at the start of a text without being what a story begins with, and a model that has
read thousands of them begins with broken ones. Each kind is a rule with a name. The rules look at a
line alone, so a few headings in mixed case stay, and a few short lines that begin with "Part" go.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

END = "<|endoftext|>"
_CAPITALS_ONLY = ("BOOK", "PART", "STORY", "LETTER", "SECTION", "VOLUME", "ACT", "SCENE", "CHAPTER")
_DIVISIONS = "|".join((*_CAPITALS_ONLY, "Chapter", "Part", "Book"))
_NUMBER = r"(?:[IVXLCivxlc\d]+|[A-Z][a-z]+)"  # XII, 12, Twelve
RULES = {
    "division": re.compile(rf"\s*(?:{_DIVISIONS})\b\.? ?{_NUMBER}?\.?.{{0,50}}"),
    "numeral": re.compile(r"\s*(?:[IVXLC]+|\d+)\.?\s*"),
    "capitals": re.compile(r"(?=.*[A-Z])[^a-z]{4,70}"),
    "rule of stars or dashes": re.compile(r"\s*[*\-–—_ ]{3,}\s*"),
}
_WITHIN_A_SENTENCE = (",", ";", '"', "”")  # a line that ends so is none
_WIDE_GAP = re.compile(r"\n{4,}")


def heading_kind(line: str) -> str | None:
    """The rule by which `line` is a heading; None for a line of text or the end of a book."""
    if line.strip() == END or line.rstrip().endswith(_WITHIN_A_SENTENCE):
        return None
    return next((kind for kind, rule in RULES.items() if rule.fullmatch(line)), None)


def without_headings(text: str) -> tuple[str, Counter[str]]:
    """`text` without its headings and the gaps that they leave, and how many of each kind went."""
    found: Counter[str] = Counter()
    kept = "\n".join(_kept(text.split("\n"), found))
    kept = _WIDE_GAP.sub("\n\n\n", kept)
    return re.sub(rf"({re.escape(END)}\n)\n+", r"\1", kept), found


def _kept(lines: list[str], found: Counter[str]) -> Iterator[str]:
    for line in lines:
        if kind := heading_kind(line):
            found[kind] += 1
        else:
            yield line


def clean_file(source: Path, target: Path) -> Counter[str]:
    """Write `source`, UTF-8, without headings to `target`; how many of each kind it had."""
    text, found = without_headings(source.read_text(encoding="utf-8"))
    target.write_text(text, encoding="utf-8")
    return found
