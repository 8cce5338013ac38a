"""Text to tokens on disk, and tokens to batches."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from gpt2.errors import UserError
from gpt2.files import read_json, write_json
from gpt2.records import parse_record
from gpt2.score import Measure, Score, make_score
from gpt2.text import Text
from gpt2.token_stream import encode_texts
from gpt2.tokenizer import Tokenizer
from train.config import TrainConfig


@dataclass(frozen=True)
class Report:
    """What was read, in words for the user and the run's record."""

    encodings: dict[str, str]  # file name to encoding
    documents: int
    train_tokens: int
    validation_tokens: int
    notes: tuple[str, ...] = ()  # what was seen in the texts and in the choice of them


@dataclass(frozen=True)
class Corpus:
    """The two token arrays of a run, memory-mapped from its folder, and what made them."""

    train: np.ndarray  # (n,) uint16 or uint32
    validation: np.ndarray  # (m,), perhaps empty
    tokenizer: Tokenizer
    report: Report

    def validation_score(self, loss: float, measure: Measure) -> Score:
        """A validation loss, nats per token, with its perplexity and bits per byte."""
        count = len(self.validation) - 1
        return make_score(loss * count, count, self.bytes_of(self.validation), measure)

    def bytes_of(self, tokens: np.ndarray) -> int:
        """The UTF-8 size of the text that `tokens` stand for; ends of text count nothing."""
        sizes = np.array(
            [
                0
                if index == self.tokenizer.end_of_text
                else len(self.tokenizer.decode_bytes([index]))
                for index in range(self.tokenizer.vocab_size)
            ]
        )
        chunks = range(0, len(tokens), 1 << 24)
        return sum(int(sizes[tokens[start : start + (1 << 24)]].sum()) for start in chunks)


def build_corpus(
    texts: Sequence[Text],
    tokenizer: Tokenizer,
    folder: Path,
    config: TrainConfig,
    notes: tuple[str, ...] = (),
) -> Corpus:
    """Tokenize `texts` into `folder`/train.bin and valid.bin, a piece at a time, reading each once.

    Every document is followed by the end of text, where the vocabulary has one. The validation
    share is the tail of all tokens, or whole documents drawn by the seed. `notes` on the choice of
    texts go into the report, before those on each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    share = config.validation_share if config.split == "documents" else 0.0
    chooser = np.random.default_rng(config.seed)
    documents = 0
    with ExitStack() as stack:
        train = stack.enter_context(open(folder / "train.bin", "wb"))
        valid = stack.enter_context(open(folder / "valid.bin", "wb"))
        out = valid if chooser.random() < share else train
        for piece in encode_texts(texts, tokenizer):
            out.write(np.array(piece.ids, dtype=_token_type(tokenizer)).tobytes())
            if piece.last:
                documents += 1
                out = valid if chooser.random() < share else train
    encodings = {text.name: text.encoding for text in texts}
    seen = (f"{text.name}: {note}" for text in texts for note in text.notes)
    _write_report(folder, tokenizer, Report(encodings, documents, 0, 0, (*notes, *seen)))
    if config.split == "tail":
        hold_out_tail(folder, tokenizer, config.validation_share)
    return open_corpus(folder, tokenizer)


def hold_out_tail(folder: Path, tokenizer: Tokenizer, share: float) -> None:
    """Move the last `share` of a corpus's training tokens to the validation tokens, of which there
    are none yet, as nanoGPT splits tiny Shakespeare."""
    path, size = folder / "train.bin", _token_type(tokenizer)().itemsize
    tokens = path.stat().st_size // size
    boundary = int(tokens * (1 - share)) * size
    if share > 0:
        with open(path, "r+b") as train, open(folder / "valid.bin", "wb") as valid:
            train.seek(boundary)
            shutil.copyfileobj(train, valid, 1 << 24)
            train.truncate(boundary)
    _write_report(folder, tokenizer, _read_report(folder))


def _write_report(folder: Path, tokenizer: Tokenizer, report: Report) -> None:
    """With the tokens that are in the folder now."""
    size = _token_type(tokenizer)().itemsize
    train, valid = ((folder / name).stat().st_size // size for name in ("train.bin", "valid.bin"))
    counted = replace(report, train_tokens=train, validation_tokens=valid)
    write_json(folder / "report.json", asdict(counted))


def _read_report(folder: Path) -> Report:
    report = parse_record(Report, read_json(folder / "report.json"))
    return report or _refuse_tokens(folder, "report.json does not say what was read")


def open_corpus(folder: Path, tokenizer: Tokenizer) -> Corpus:
    """The corpus that `build_corpus` left in `folder`. `UserError` if it is not whole."""
    kind, report = _token_type(tokenizer), _read_report(folder)
    train, valid = (_open_tokens(folder / name, kind) for name in ("train.bin", "valid.bin"))
    if (len(train), len(valid)) != (report.train_tokens, report.validation_tokens):
        _refuse_tokens(folder, "these are not as many tokens as were counted")
    return Corpus(train, valid, tokenizer, report)


def _refuse_tokens(folder: Path, why: str) -> NoReturn:
    raise UserError(
        f"The tokenized text in {folder} is damaged: {why}. Restore it from a copy, or begin a new "
        "run from the text."
    )


def fit_block(config: TrainConfig, corpus: Corpus, window: int) -> tuple[TrainConfig, str | None]:
    """A block no longer than the model's window and the text, and a word if it had to shrink."""
    most = min(window, len(corpus.train) - 1)
    if most < 1:
        raise UserError("The text has fewer than two tokens left to train on. Give more text.")
    if config.block_size <= most:
        return config, None
    why = "the model's window" if most == window else "the text"
    message = (
        f"{why} has room for blocks of {most} tokens, not {config.block_size}: block_size is {most}"
    )
    return replace(config, block_size=most, stride=min(config.stride, most)), message


class Windows:
    """Windows of block + 1 tokens, every token in at least one, in an order drawn anew each epoch.

    A batch is a function of (seed, step) alone, so a resumed run needs no state of this.
    """

    def __init__(self, tokens: np.ndarray, config: TrainConfig) -> None:
        self._tokens = tokens
        self._block = config.block_size
        self._stride = config.stride or config.block_size
        self._batch = config.batch_size
        self._seed = config.seed
        self._last_start = len(tokens) - config.block_size - 1
        self.per_epoch = -(-self._last_start // self._stride) + 1
        self._epoch = -1
        self._order = np.zeros(0, dtype=np.int64)

    def batch(self, step: int, rows: slice = slice(None)) -> Tensor:
        """Windows `rows` of step 0, 1, ...: (rows, block + 1) int64."""
        numbers = range(step * self._batch, (step + 1) * self._batch)[rows]
        return torch.stack([self._window(number) for number in numbers])

    def _window(self, number: int) -> Tensor:
        epoch, index = divmod(number, self.per_epoch)
        if self._epoch != epoch:
            shuffle = np.random.default_rng((self._seed, epoch))
            self._epoch, self._order = epoch, shuffle.permutation(self.per_epoch)
        start = min(int(self._order[index]) * self._stride, self._last_start)
        return torch.from_numpy(self._tokens[start : start + self._block + 1].astype(np.int64))


def _token_type(tokenizer: Tokenizer) -> type[np.unsignedinteger]:
    return np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32


def _open_tokens(path: Path, kind: type[np.unsignedinteger]) -> np.ndarray:
    try:
        empty = path.stat().st_size == 0
        return np.zeros(0, dtype=kind) if empty else np.memmap(path, dtype=kind, mode="r")
    except (OSError, ValueError) as error:  # such as half a token at its end
        _refuse_tokens(path.parent, f"{path.name} cannot be read ({error})")
