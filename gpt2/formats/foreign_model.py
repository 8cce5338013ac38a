"""What every door yields: a GPT-2 of another program, its tensors read one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gpt2.errors import UserError
from gpt2.files import read_json
from gpt2.folder import LIMITS
from gpt2.formats.pickles import read_character_table
from gpt2.model import ModelConfig
from gpt2.tokenizer import (
    CharacterTokenizer,
    Tokenizer,
    gpt2_tokenizer,
    has_tokenizer,
    load_tokenizer,
)

# OpenAI's vocabulary, and what nanoGPT and llm.c pad it to.
_GPT2_VOCABULARIES = (50257, 50304)


@dataclass(frozen=True)
class Hints:
    """What a person says about a source, for what its files leave open."""

    heads: int | None = None  # n_head: no tensor's shape shows it
    activation: str | None = None  # "gelu" by the error function, or "gelu_new" by tanh
    tokenizer: Path | None = None  # a folder, nanoGPT's meta.pkl, or the text of a character model


@dataclass(frozen=True)
class ForeignModel:
    """A model as it was found. `read` gives the tensor of that name of a `GPT2(config)`, in its
    shape and whichever type it is stored in; the caller keeps one at a time."""

    kind: str  # what it is, for people
    config: ModelConfig
    tokenizer: Tokenizer
    read: Callable[[str], Tensor]


def bounded_config(place: object, **shape: object) -> ModelConfig:
    """A shape out of a file, within the limits of a model folder. `UserError` names what is not."""
    for name, limit in LIMITS.items():
        value = shape.get(name)
        if type(value) is not int or not 1 <= value <= limit:
            raise UserError(f"{place}: {name} is {value!r}, not a number from 1 to {limit}.")
    try:
        return ModelConfig(**shape)
    except ValueError as error:
        raise UserError(f"{place}: {error}.") from None


def find_tokenizer(beside: Path, vocab_size: int, hint: Path | None) -> Tokenizer:
    """The tokenizer that `hint` names, or that lies in the folder `beside`, or OpenAI's where the
    number of tokens is its own. `UserError` if there is none, or it has more tokens than the model.
    """
    if hint is None and (beside / "meta.pkl").is_file():
        hint = beside / "meta.pkl"
    elif hint is None and has_tokenizer(beside):
        hint = beside
    if hint is None and vocab_size not in _GPT2_VOCABULARIES:
        raise UserError(
            f"Nothing beside the weights says what their {vocab_size:,} tokens are. Give "
            "--tokenizer: a folder with a tokenizer's files, nanoGPT's meta.pkl, or, for a model "
            "of characters, the text that it was trained on."
        )
    tokenizer = gpt2_tokenizer() if hint is None else _read_tokenizer(hint)
    if tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"{hint}: the tokenizer has {tokenizer.vocab_size:,} tokens, the model only "
            f"{vocab_size:,}. They do not belong together: give the model's own, with --tokenizer."
        )
    return tokenizer


def _read_tokenizer(path: Path) -> Tokenizer:
    if path.is_dir():
        meta = path / "meta.pkl"
        return _read_tokenizer(meta) if meta.is_file() else load_tokenizer(path)
    if path.suffix == ".pkl":
        return CharacterTokenizer(read_character_table(path))
    if not path.is_file():
        raise UserError(f"There is no tokenizer {path}.")
    try:
        return CharacterTokenizer.from_text(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as text in UTF-8: {error}.") from None


def read_beside(beside: Path) -> dict:
    """The object in the config.json of a folder; empty where there is none."""
    path = beside / "config.json"
    described = read_json(path) if path.is_file() else {}
    return described if type(described) is dict else {}
