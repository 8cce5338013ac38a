"""A visitor's text: what is accepted, read once into tokens, and what it is at a glance."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2.errors import UserError
from gpt2.text import (
    TABLES,
    PastedText,
    Text,
    TextFile,
    is_binary,
    refuse_idle,
)
from gpt2.tokenizer import Tokenizer
from service.limits import Limits
from train.config import TrainConfig
from train.data import build_corpus

SUFFIXES = (".txt", ".md", *TABLES)
MIN_TEXT_TOKENS = 200
MEMORIZES_BELOW = 20_000  # tokens
_SHOWN_BLOCKS = 3


@dataclass(frozen=True)
class TextSummary:
    encoding: str  # "pasted" for a text that came as text
    characters: int
    tokens: int
    blocks: int  # of block_size tokens
    first_blocks: tuple[str, ...]  # as the tokenizer reads them
    warning: str | None = None
    documents: int = 1
    notes: tuple[str, ...] = ()  # what was seen in it


@dataclass(frozen=True)
class PreparedText:
    """A text that has been read: what it is, and its tokens where they were kept."""

    summary: TextSummary
    model: str  # whose tokenizer it was
    column: str | None = None
    encoding: str | None = None  # as it was given
    folder: Path | None = None  # of the tokens


def open_text(
    source: Path | str | None, column: str | None, limits: Limits, encoding: str | None = None
) -> Text:
    """A file (a `Path`) or a pasted text (a `str`), refused unless it can be trained on. `encoding`
    is a file's, where it is not to be found."""
    if isinstance(source, Path):
        check_file(source, limits)
        with _hiding(source):
            refuse_idle([source], column, encoding)
            return TextFile(source, column, encoding)
    for name, value in (("column", column), ("encoding", encoding)):
        if value:
            raise UserError(f"A pasted text has no {name}: leave out {name} {value!r}.")
    check_pasted(source, limits)
    return PastedText(source)


def prepare_text(text: Text, tokenizer: Tokenizer, block_size: int, folder: Path) -> TextSummary:
    """Tokenize a text into `folder`, reading it once, and say what it is.

    `UserError` for what cannot be trained on; nothing is left in `folder` then.
    """
    watched = _Watched(text)
    try:
        with _hiding(getattr(text, "path", None)):
            corpus = build_corpus([watched], tokenizer, folder, TrainConfig(validation_share=0.0))
        first = corpus.train[: _SHOWN_BLOCKS * block_size].tolist()
        # Every document ends in a token that is not of the text.
        ends = 0 if tokenizer.end_of_text is None else corpus.report.documents
        return _summarize(watched, len(corpus.train) - ends, first, tokenizer, block_size)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def summarize_text(text: Text, tokenizer: Tokenizer, block_size: int) -> TextSummary:
    """What a text is, without keeping anything of it."""
    watched = _Watched(text)
    tokens, first, continues = 0, [], False
    for piece, last in watched.pieces():
        ids = tokenizer.encode(piece, continues)
        continues = not last
        tokens += len(ids)
        first += ids[: max(0, _SHOWN_BLOCKS * block_size - len(first))]
    return _summarize(watched, tokens, first, tokenizer, block_size)


class _Watched:
    """A text whose pieces are checked and counted as they pass."""

    def __init__(self, text: Text) -> None:
        self.name, self._text = text.name, text
        self.characters, self.documents, self.is_empty = 0, 0, True

    @property
    def encoding(self) -> str:
        return self._text.encoding

    @property
    def notes(self) -> tuple[str, ...]:
        return self._text.notes

    def pieces(self) -> Iterator[tuple[str, bool]]:
        for piece, last in self._text.pieces():
            refuse_binary(piece)
            self.characters += len(piece)
            self.documents += last
            self.is_empty = self.is_empty and not piece.strip()
            yield piece, last


def _summarize(
    text: _Watched, tokens: int, first: list[int], tokenizer: Tokenizer, block_size: int
) -> TextSummary:
    if text.is_empty:
        raise UserError("The text is empty. Paste or upload one.")
    if tokens < MIN_TEXT_TOKENS:
        raise UserError(
            f"The text has {tokens} tokens; a model learns nothing from fewer than "
            f"{MIN_TEXT_TOKENS} (about 800 characters). Give more text."
        )
    blocks = [first[i : i + block_size] for i in range(0, len(first), block_size)]
    return TextSummary(
        encoding=text.encoding,
        characters=text.characters,
        tokens=tokens,
        blocks=max(1, tokens // block_size),
        first_blocks=tuple(tokenizer.decode(block) for block in blocks),
        warning=_warning(tokens, text.encoding),
        documents=text.documents,
        notes=text.notes,
    )


def check_pasted(text: object, limits: Limits) -> None:
    """Refuse what is not text or too long, before anything is done with it."""
    if type(text) is not str:
        raise UserError("The text must be a text.")
    if not text.strip():
        raise UserError("The text is empty. Paste or upload one.")
    if len(text) > limits.text_bytes or len(text.encode("utf-8", "replace")) > limits.text_bytes:
        raise UserError(_too_large(limits))
    refuse_binary(text)


def check_file(path: Path, limits: Limits) -> None:
    """Refuse what is not a plain text file or too long, before it is read."""
    try:
        about = os.lstat(path)
    except (OSError, ValueError):
        raise UserError("The file is not there anymore. Upload it again.") from None
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
    """`UserError` for what only pretends to be text: pictures and archives decode as cp1252."""
    if "\0" in piece:
        raise UserError("The file holds zero bytes: it is not text. Save it as UTF-8 text.")
    if is_binary(piece):
        raise UserError("The file is full of control characters: it is not text.")


class _hiding:
    """Where the server keeps a file is nothing for its visitors: errors speak of "The file"."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UserError) and self._path is not None:
            raise type(error)(str(error).replace(str(self._path), "The file")) from None


def _warning(tokens: int, encoding: str) -> str | None:
    warnings = []
    if encoding != "pasted" and not encoding.startswith("utf-"):
        warnings.append(
            f"It is not UTF-8, so it was read as {encoding}. If letters look wrong below, choose "
            "its encoding, or save it as UTF-8 and upload it again."
        )
    if tokens < MEMORIZES_BELOW:
        warnings.append(
            f"{tokens:,} tokens are few: the model will memorize them rather than learn from them. "
            f"{MEMORIZES_BELOW:,} or more are better."
        )
    return " ".join(warnings) or None


def _too_large(limits: Limits) -> str:
    return f"The text is larger than {limits.text_bytes / 1e6:g} MB, the most that is read here."
