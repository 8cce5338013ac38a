"""The names in OpenAI's release: variables and their shapes, hparams.json, the tokenizer's files.

`name_map` is the single table between a checkpoint and a model folder, used in both directions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gpt2.errors import UserError
from gpt2.files import read_json, write_text
from gpt2.folder import LIMITS
from gpt2.model import SIZES, ModelConfig
from gpt2.tokenizer import BytePairTokenizer

PREFIX = "model.ckpt"
HPARAMS = {
    "n_vocab": "vocab_size",
    "n_ctx": "n_positions",
    "n_embd": "n_embd",
    "n_head": "n_head",
    "n_layer": "n_layer",
}


@dataclass(frozen=True)
class Row:
    """One line of the map: a variable in the checkpoint and its tensor in the folder."""

    variable: str
    tensor: str
    shape: tuple[int, ...]  # in the folder
    stored_shape: tuple[int, ...]  # in the checkpoint


def name_map(config: ModelConfig) -> list[Row]:
    """Every variable in OpenAI's checkpoint and every tensor in a folder, one to one."""
    C = config.n_embd
    rows = [
        Row("model/wte", "wte.weight", (config.vocab_size, C), (config.vocab_size, C)),
        Row("model/wpe", "wpe.weight", (config.n_positions, C), (config.n_positions, C)),
        *_norm("model/ln_f", "ln_f", C),
    ]
    for layer in range(config.n_layer):
        variable, tensor = f"model/h{layer}", f"h.{layer}"
        rows += _norm(f"{variable}/ln_1", f"{tensor}.ln_1", C)
        rows += _linear(f"{variable}/attn/c_attn", f"{tensor}.attn.c_attn", C, 3 * C)
        rows += _linear(f"{variable}/attn/c_proj", f"{tensor}.attn.c_proj", C, C)
        rows += _norm(f"{variable}/ln_2", f"{tensor}.ln_2", C)
        rows += _linear(f"{variable}/mlp/c_fc", f"{tensor}.mlp.c_fc", C, 4 * C)
        rows += _linear(f"{variable}/mlp/c_proj", f"{tensor}.mlp.c_proj", 4 * C, C)
    return rows


def _norm(variable: str, tensor: str, width: int) -> list[Row]:
    return [
        Row(f"{variable}/g", f"{tensor}.weight", (width,), (width,)),
        Row(f"{variable}/b", f"{tensor}.bias", (width,), (width,)),
    ]


def _linear(variable: str, tensor: str, n_in: int, n_out: int) -> list[Row]:
    return [
        Row(f"{variable}/w", f"{tensor}.weight", (n_in, n_out), (1, n_in, n_out)),
        Row(f"{variable}/b", f"{tensor}.bias", (n_out,), (n_out,)),
    ]


def write_release_texts(directory: Path, config: ModelConfig, tokenizer: BytePairTokenizer) -> None:
    """The four small text files of a release, byte for byte as OpenAI published them."""
    names = f'model_checkpoint_path: "{PREFIX}"\nall_model_checkpoint_paths: "{PREFIX}"\n'
    write_text(directory / "checkpoint", names)
    hparams = {theirs: getattr(config, ours) for theirs, ours in HPARAMS.items()}
    write_text(directory / "hparams.json", json.dumps(hparams, indent=2) + "\n")
    write_text(directory / "encoder.json", json.dumps(tokenizer.vocabulary))
    merges = [f"{left} {right}" for left, right in tokenizer.merges]
    write_text(directory / "vocab.bpe", "\n".join(["#version: 0.2", *merges]) + "\n")


def read_hparams(path: Path) -> ModelConfig:
    """hparams.json as a shape, within the same limits as a folder's config.json."""
    if not path.is_file():
        raise UserError(f"{path.parent} is not an OpenAI checkpoint: {path.name} is missing.")
    described = read_json(path)
    if type(described) is not dict or set(described) != set(HPARAMS):
        raise UserError(f"{path} must have exactly {', '.join(HPARAMS)}.")
    for name, value in described.items():
        limit = LIMITS[HPARAMS[name]]
        if type(value) is not int or not 1 <= value <= limit:
            raise UserError(f"{path}: {name} is {value!r}, not a number from 1 to {limit}.")
    try:
        config = ModelConfig(**{ours: described[theirs] for theirs, ours in HPARAMS.items()})
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from None
    # No shape shows the number of heads. If the rest is a released size, it must match that size.
    for size, released in SIZES.items():
        same = (config.n_layer, config.n_embd) == (released.n_layer, released.n_embd)
        if same and config.n_head != released.n_head:
            raise UserError(
                f"{path}: n_head is {config.n_head}; the {size} that the other numbers describe "
                f"has {released.n_head}."
            )
    return config


def read_tokenizer(directory: Path, config: ModelConfig) -> BytePairTokenizer:
    for name in ("encoder.json", "vocab.bpe"):
        if not (directory / name).is_file():
            raise UserError(f"{directory} is not an OpenAI checkpoint: {name} is missing.")
    try:
        tokenizer = BytePairTokenizer.from_files(
            directory / "vocab.bpe", directory / "encoder.json"
        )
    except UserError as error:
        raise UserError(f"{directory}: vocab.bpe and encoder.json: {error}.") from None
    if tokenizer.vocab_size != config.vocab_size:
        raise UserError(
            f"{directory}: encoder.json has {tokenizer.vocab_size} tokens, hparams.json says "
            f"n_vocab {config.vocab_size}."
        )
    return tokenizer
