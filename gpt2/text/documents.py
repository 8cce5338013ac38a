"""Where a document ends: marks that people put between texts, and pieces of a bounded size."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from gpt2.tokenizer import END_OF_TEXT

START_OF_TEXT = "<|startoftext|>"
_PIECE_CHARACTERS = 1 << 20
_LONGEST_PIECE = 1 << 24  # of a text without white space, which is then cut anywhere
# A mark takes the rest of its line with it, and the blanks before it on a line of its own. \Z: more
# may follow.
_MARK = re.compile(
    rf"(?:(?<=\n)[ \t]+)?({re.escape(END_OF_TEXT)}|{re.escape(START_OF_TEXT)})(?:[ \t]*(?:\n|\Z))?"
)


class Documents:
    """Parts texts at "<|endoftext|>" and "<|startoftext|>", wherever they stand, and counts these
    `marks`. They are never a part of a document."""

    def __init__(self) -> None:
        self.marks: Counter[str] = Counter()

    @property
    def notes(self) -> Iterator[str]:
        if self.marks:
            said = " and ".join(f"{count:,} {mark}" for mark, count in sorted(self.marks.items()))
            yield f"documents are parted at {said}"

    def pieces(self, chunks: Iterable[str]) -> Iterator[tuple[str, bool]]:
        """(piece, whether it ends its document), in pieces of about a megabyte. They are cut before
        white space, where tokenizing them one by one gives the same tokens as the whole. A document
        of nothing but white space is none."""
        text, is_open = "", False
        for chunk, final in _with_last(chunks):
            text += chunk
            place = 0
            kept = len(text)  # from here on it may still become a mark, or belong to one
            for mark in _MARK.finditer(text) if "<|" in text else ():
                if mark.end() == len(text) and not final and not mark[0].endswith("\n"):
                    kept = mark.start()
                    break
                self.marks[mark[1]] += 1
                document = text[place : mark.start()]
                if is_open or document.strip():
                    yield document, True
                place, is_open = mark.end(), False
            text, kept = text[place:], kept - place
            if final and (is_open or text.strip()):
                yield text, True
            elif len(text) >= _PIECE_CHARACTERS and not final:
                cut = _find_cut(text[:kept])
                if cut:
                    yield text[:cut], False
                    text, is_open = text[cut:], True


def _with_last(chunks: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Chunks of at most a piece, and an empty last one that says so."""
    for chunk in chunks:
        for start in range(0, len(chunk), _PIECE_CHARACTERS):
            yield chunk[start : start + _PIECE_CHARACTERS], False
    yield "", True


def _find_cut(text: str) -> int:
    """Where the last run of white space begins; of a very long text without any, its end, though
    not within a mark; 0 if there is no place to cut at yet."""
    end = max(text.rfind(space) for space in " \t\n") + 1
    cut = len(text[:end].rstrip(" \t\n"))
    if cut and not text[cut - 1].isspace():
        return cut
    if len(text) < _LONGEST_PIECE:
        return 0
    begun = text.rfind("<", len(text) - len(START_OF_TEXT))
    return len(text) if begun < 0 else begun
