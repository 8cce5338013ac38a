"""Documents as one stream of token ids: what training learns from and every measure reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gpt2.text import Text
from gpt2.tokenizer import Tokenizer


class EncodedPiece(NamedTuple):
    """A part of a document."""

    ids: list[int]
    bytes: int  # of its text in UTF-8
    last: bool  # whether its document ends here


def encode_texts(texts: Iterable[Text], tokenizer: Tokenizer) -> Iterator[EncodedPiece]:
    """The ids of all documents in order, a piece at a time. Every document is followed by the end
    of text, where the vocabulary has one."""
    end = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    for text in texts:
        continues = False
        for piece, last in text.pieces():
            ids = tokenizer.encode(piece, continues) + (end if last else [])
            continues = not last
            yield EncodedPiece(ids, len(piece.encode("utf-8")), last)
