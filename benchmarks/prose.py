"""What can be counted in a piece of English prose without understanding it."""

from __future__ import annotations

import re
from collections import Counter

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
# The end of a sentence, with the quotation marks and brackets that close behind it.
_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s|$)")
_TITLES = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|No)\.$")
_NO_NAMES = frozenset(("I", "O", "Oh", "Mr", "Mrs", "Miss", "Sir", "Dr", "St"))


def words_of(text: str) -> list[str]:
    return _WORD.findall(text)


def repeated_runs(text: str, length: int) -> float:
    """Of the runs of `length` words, in any case, the share that came before in the text."""
    words = [word.casefold() for word in words_of(text)]
    runs = list(zip(*(words[start:] for start in range(length))))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def sentences_of(text: str) -> list[str]:
    """The sentences that come to an end, in order; what is left behind the last is none."""
    found, start = [], 0
    for end in _END.finditer(text):
        sentence = text[start : end.end()].strip()
        if sentence and not _TITLES.search(sentence):
            found.append(sentence)
            start = end.end()
    return found


def ends_a_sentence(text: str) -> bool:
    """Whether the text breaks off nowhere within a sentence."""
    sentences = sentences_of(text)
    return bool(sentences) and text.rstrip().endswith(sentences[-1])


def names_in(text: str) -> Counter[str]:
    """Words with a capital that stand within a sentence: persons and places, mostly."""
    found: Counter[str] = Counter()
    for match in _WORD.finditer(text):
        before = text[: match.start()].rstrip(" ")[-1:]
        word = re.sub(r"['’]s$", "", match[0])
        if (before.isalpha() or before == ",") and re.fullmatch(r"[A-Z][a-z]+", word):
            found[word] += word not in _NO_NAMES
    return +found


def persons_in(book: str, least: int = 1) -> set[str]:
    """The names that a book has `least` times, without words that it also writes small."""
    small = {word.capitalize() for word in words_of(book) if word.islower()}
    return {name for name, times in names_in(book).items() if times >= least} - small


def begins_with_a_sentence(text: str) -> bool:
    """Whether a text begins with words of a sentence, behind an opening quotation mark or not:
    neither a heading nor a mark, a blank line or a lone capital before it."""
    paragraph = text.partition("\n\n")[0]
    head = words_of(paragraph)[:12]
    shouted = any(word.isupper() and len(word) > 1 for word in head)
    whole = bool(sentences_of(paragraph)) or "\n\n" not in text
    return bool(re.match(r"[\"'“‘]?[A-Z]", text)) and len(head) >= 4 and whole and not shouted
