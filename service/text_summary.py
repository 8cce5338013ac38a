"""What a text is, at a glance, before anything is trained on it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gpt2.errors import UserError
from gpt2.text import find_encoding, read_pieces
from gpt2.tokenizer import Tokenizer
from service.request import SUFFIXES, Limits

FEWEST_TOKENS = 200
MEMORISES_BELOW = 20_000  # tokens
_EXACT_CHARACTERS = 2_000_000  # of longer texts the tokens are counted by their beginning
_SHOWN_BLOCKS = 3


@dataclass(frozen=True)
class TextCard:
    encoding: str  # "pasted" for a text that came as text
    characters: int
    tokens: int  # an estimate unless `exact`
    blocks: int  # of block_size tokens
    first_blocks: tuple[str, ...]  # as the tokenizer reads them
    warning: str | None = None
    exact: bool = True


def describe_text(
    source: Path | str,
    tokenizer: Tokenizer,
    block_size: int,
    column: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> TextCard:
    """The card of a file (a `Path`) or of a pasted text (a `str`).

    `UserError` for what cannot be trained on: no text, too long, fewer than 200 tokens. At most a
    second or two, whatever is sent.
    """
    if not isinstance(source, Path):
        check_pasted(source, limits)
        return _describe([(source, True)], "pasted", tokenizer, block_size)
    check_file(source, limits)
    try:
        encoding = find_encoding(source)
        return _describe(read_pieces(source, column), encoding, tokenizer, block_size)
    except UserError as error:  # where the server keeps the file is nothing for its visitors
        raise UserError(str(error).replace(str(source), "The file")) from None


def _describe(
    pieces: Iterable[tuple[str, bool]], encoding: str, tokenizer: Tokenizer, block_size: int
) -> TextCard:
    characters = tokens = counted = 0
    first: list[int] = []
    empty = True
    for piece, _ in pieces:
        refuse_binary(piece)
        characters += len(piece)
        empty = empty and not piece.strip()
        if counted < _EXACT_CHARACTERS:
            ids = tokenizer.encode(piece[:_EXACT_CHARACTERS])
            first += ids[: max(0, _SHOWN_BLOCKS * block_size - len(first))]
            tokens += len(ids)
            counted += min(len(piece), _EXACT_CHARACTERS)
    if empty:
        raise UserError("The text is empty. Paste or upload one.")
    exact = counted == characters
    tokens = tokens if exact else round(tokens * characters / counted)
    if tokens < FEWEST_TOKENS:
        raise UserError(
            f"The text has {tokens} tokens; a model learns nothing from fewer than "
            f"{FEWEST_TOKENS} (about 800 characters). Give more text."
        )
    blocks = [first[i : i + block_size] for i in range(0, len(first), block_size)]
    return TextCard(
        encoding=encoding,
        characters=characters,
        tokens=tokens,
        blocks=max(1, tokens // block_size),
        first_blocks=tuple(tokenizer.decode(block) for block in blocks),
        warning=_warning(tokens, encoding),
        exact=exact,
    )


def check_pasted(text: str, limits: Limits) -> None:
    """Refuse what is no text or too long, before anything is done with it."""
    if type(text) is not str:
        raise UserError("The text must be a text.")
    if not text.strip():
        raise UserError("The text is empty. Paste or upload one.")
    if len(text) > limits.text_bytes or len(text.encode("utf-8", "replace")) > limits.text_bytes:
        raise UserError(_too_large(limits))
    refuse_binary(text)


def check_file(path: Path, limits: Limits) -> None:
    """Refuse what is no plain text file or too long, before it is read."""
    try:
        about = os.lstat(path)
    except (OSError, ValueError):
        raise UserError("The file is not there (any more). Upload it again.") from None
    if not stat.S_ISREG(about.st_mode):
        raise UserError("That is not an ordinary file. Upload a text file.")
    if path.suffix.lower() not in SUFFIXES:
        kinds = ", ".join(SUFFIXES)
        raise UserError(
            f"The file's name ends in {path.suffix[:20] or 'nothing'}; it must be {kinds}."
        )
    if about.st_size == 0:
        raise UserError("The file is empty. Choose another.")
    if about.st_size > limits.text_bytes:
        raise UserError(_too_large(limits))


def refuse_binary(piece: str) -> None:
    """`UserError` for what only pretends to be text.

    Control characters tell pictures and archives, which decode as cp1252, from texts."""
    if "\0" in piece:
        raise UserError("The file holds zero bytes: it is no text. Save it as UTF-8 text.")
    controls = sum(map(piece.count, map(chr, (*range(1, 9), *range(14, 27), 0x7F))))
    if controls > 4 + len(piece) // 100:
        raise UserError("The file is full of control characters: it is no text.")


def _warning(tokens: int, encoding: str) -> str | None:
    warnings = []
    if encoding == "cp1252":
        warnings.append(
            "It is not UTF-8, so it was read as Windows-1252. If letters look wrong below, save "
            "it as UTF-8 and upload it again."
        )
    if tokens < MEMORISES_BELOW:
        warnings.append(
            f"{tokens:,} tokens are few: the model will rather memorise them than learn from them. "
            f"{MEMORISES_BELOW:,} or more are better."
        )
    return " ".join(warnings) or None


def _too_large(limits: Limits) -> str:
    return f"The text is larger than {limits.text_bytes / 1e6:g} MB, the most that is read here."
