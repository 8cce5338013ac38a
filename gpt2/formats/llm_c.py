"""llm.c's model files, gpt2_124M.bin and its kin: a header of 256 numbers, then all values.

Version 3 is float32, version 5 bfloat16. Matrices are (out, in), the vocabulary is padded with rows
that mean nothing, the GELU is OpenAI's, and the tokens are OpenAI's, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt2.errors import UserError
from gpt2.formats.foreign_model import ForeignModel, Hints, bounded_config, find_tokenizer
from gpt2.formats.state_dict import StateDict
from gpt2.model import ModelConfig

MAGIC = 20240326
_HEADER = 256  # numbers of 4 bytes
_TYPES = {3: (np.dtype("<f4"), torch.float32), 5: (np.dtype("<u2"), torch.bfloat16)}
_FIELDS = ("n_positions", "vocab_size", "n_layer", "n_head", "n_embd")  # from header[2] on
_LAYER_PARTS = (
    ("ln_1.weight", lambda C: (C,)),
    ("ln_1.bias", lambda C: (C,)),
    ("attn.c_attn.weight", lambda C: (3 * C, C)),
    ("attn.c_attn.bias", lambda C: (3 * C,)),
    ("attn.c_proj.weight", lambda C: (C, C)),
    ("attn.c_proj.bias", lambda C: (C,)),
    ("ln_2.weight", lambda C: (C,)),
    ("ln_2.bias", lambda C: (C,)),
    ("mlp.c_fc.weight", lambda C: (4 * C, C)),
    ("mlp.c_fc.bias", lambda C: (4 * C,)),
    ("mlp.c_proj.weight", lambda C: (C, 4 * C)),
    ("mlp.c_proj.bias", lambda C: (C,)),
)


def is_llm_c(path: Path) -> bool:
    """Whether a file begins as llm.c's do."""
    with open(path, "rb") as file:
        return file.read(4) == MAGIC.to_bytes(4, "little")


def open_llm_c(path: Path, hints: Hints) -> ForeignModel:
    """The model in such a file; values are mapped, not read. `UserError` says what is wrong."""
    config, padded, version = _read_header(path)
    kind, dtype = _TYPES[version]
    parts = list(_parts(config, padded))
    wanted = 4 * _HEADER + kind.itemsize * sum(math.prod(shape) for _, shape in parts)
    if (size := path.stat().st_size) != wanted:
        word = "truncated" if size < wanted else "too long"
        raise UserError(f"{path} is {word}: it has {size:,} bytes, not {wanted:,}.")
    values = np.memmap(path, dtype=kind, mode="c", offset=4 * _HEADER)
    tensors: dict[str, Tensor] = {}
    begin = 0
    for name, shape in parts:
        end = begin + math.prod(shape)
        tensors[name] = torch.from_numpy(values[begin:end]).view(dtype).view(shape)
        begin = end
    tensors["wte.weight"] = tensors["wte.weight"][: config.vocab_size]
    model = StateDict(path, tensors, config.n_head)
    tokenizer = find_tokenizer(path.parent, config.vocab_size, hints.tokenizer)
    return ForeignModel("llm.c's model file", model.config, tokenizer, model.read)


def _read_header(path: Path) -> tuple[ModelConfig, int, int]:
    """The shape, the padded size of the vocabulary, and the version."""
    header = np.fromfile(path, dtype="<i4", count=_HEADER)
    if len(header) < _HEADER or header[0] != MAGIC:
        raise UserError(f"{path} is not a whole file of llm.c.")
    version, padded = int(header[1]), int(header[7])
    if version not in _TYPES:
        raise UserError(
            f"{path} has the version {version} of llm.c's format. Versions 3 (float32) and 5 "
            "(bfloat16) are read: write it again with a newer train_gpt2.py."
        )
    shape = {name: int(value) for name, value in zip(_FIELDS, header[2:7])}
    config = bounded_config(path, **shape)
    if not config.vocab_size <= padded <= 2 * config.vocab_size + 128:
        raise UserError(
            f"{path}: a vocabulary of {config.vocab_size} cannot be padded to {padded}."
        )
    return config, padded, version


def _parts(config: ModelConfig, padded: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the file's order: each part of all layers, one layer after the other."""
    C = config.n_embd
    yield "wte.weight", (padded, C)
    yield "wpe.weight", (config.n_positions, C)
    for part, shape in _LAYER_PARTS:
        for layer in range(config.n_layer):
            yield f"h.{layer}.{part}", shape(C)
    yield "ln_f.weight", (C,)
    yield "ln_f.bias", (C,)
