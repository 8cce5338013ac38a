"""GGUF files of the architecture gpt2, as llama.cpp's converter and this program write them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt2.added_tokens import AddedToken
from gpt2.byte_pairs import BytePairSettings
from gpt2.errors import UserError
from gpt2.folder import is_finite
from gpt2.formats.foreign_model import ForeignModel, Hints, bounded_config, find_tokenizer
from gpt2.formats.gguf_names import (
    ARCHITECTURE,
    EPSILON,
    EXACT_GELU,
    GGUF_FIELDS,
    INNER,
    gguf_names,
    import_gguf,
    is_gguf_matrix,
)
from gpt2.formats.state_dict import state_shapes
from gpt2.model import ModelConfig
from gpt2.tokenizer import BytePairTokenizer, Tokenizer

_TYPES = ("F32", "F16", "BF16", "Q8_0")
# Of a header, which the library reads item by item: OpenAI's vocabulary takes 250,000 parts.
_MOST_PARTS, _MOST_ITEMS = 1_500_000, 600_000
_SPLITTERS = (None, "gpt-2", "gpt2", "default")  # that cut words as GPT-2 does


def open_gguf(path: Path, hints: Hints) -> ForeignModel:
    """The model in a file; its tensors are mapped, not read. `UserError` says what is wrong, or
    which other architecture it is."""
    reader = _open(path)
    config = _read_config(path, reader, hints)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config = _with_head(config, "output.weight" in tensors)
    _check_tensors(path, config, tensors)

    def read(name: str) -> Tensor:
        return _to_tensor(path, name, tensors[gguf_names(config)[name]], config)

    if hints.tokenizer is None and _value(reader, "tokenizer.ggml.tokens") is not None:
        tokenizer = _read_tokenizer(path, reader)
    else:
        tokenizer = find_tokenizer(path.parent, config.vocab_size, hints.tokenizer)
    return ForeignModel("a GGUF file", config, tokenizer, read)


def _open(path: Path):
    """A reader that stops where the file does: the library's own would read nothing, for ever."""
    gguf = import_gguf()

    class Bounded(gguf.GGUFReader):
        parts = 0

        def _get(self, offset, dtype, count=1, override_order=None):
            self.parts += 1
            if type(self.data) is np.memmap:  # its slices are ten times as large and slow
                self.data = self.data.view(np.ndarray)
            if int(offset) + int(count) * np.dtype(dtype).itemsize > len(self.data):
                raise ValueError("it ends early")
            if self.parts > _MOST_PARTS:
                raise ValueError("its header is longer than any GPT-2's")
            return super()._get(offset, dtype, count, override_order)

        def _get_field_parts(self, orig_offs, raw_type):
            is_list = int(raw_type) == gguf.GGUFValueType.ARRAY
            if is_list and self._get(orig_offs + 4, np.uint64)[0] > _MOST_ITEMS:
                raise ValueError("it has a list longer than any vocabulary")
            return super()._get_field_parts(orig_offs, raw_type)

    try:
        return Bounded(path)
    # A damaged header ends the library's reader in nearly any way.
    except (Exception, RecursionError) as error:
        raise UserError(f"{path} is not a sound GGUF file: {str(error)[:200]}.") from None


def _value(reader, key: str) -> object:
    field = reader.get_field(key)
    try:
        return None if field is None else field.contents()
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"The key {key} of the GGUF file is damaged: {error}.") from None


def _read_config(path: Path, reader, hints: Hints) -> ModelConfig:
    architecture = _value(reader, "general.architecture")
    if architecture != ARCHITECTURE:
        raise UserError(
            f"{path} is a model of the architecture {str(architecture)[:40]!r}, not "
            f"{ARCHITECTURE!r}."
        )
    if _value(reader, "split.count") not in (None, 0, 1):
        raise UserError(f"{path} is one part of several. Join them: llama-gguf-split --merge")
    prefix = f"{ARCHITECTURE}."
    shape = {ours: _value(reader, prefix + theirs) for ours, theirs in GGUF_FIELDS.items()}
    embedding = next((one for one in reader.tensors if one.name == "token_embd.weight"), None)
    if embedding is None or len(embedding.shape) != 2:
        raise UserError(f"{path}: the tensor token_embd.weight is missing.")
    inner, epsilon = _value(reader, prefix + INNER), _value(reader, prefix + EPSILON)
    exact = bool(_value(reader, prefix + EXACT_GELU))
    return bounded_config(
        path,
        vocab_size=int(embedding.shape[1]),
        **shape,
        n_inner=None if inner in (None, 4 * (shape["n_embd"] or 0)) else inner,
        layer_norm_epsilon=1e-5 if epsilon is None else _from_float32(epsilon),
        exact_gelu=exact if hints.activation is None else hints.activation == "gelu",
    )


def _from_float32(value: object) -> object:
    """1e-5 where the file has the float32 next to it, 9.99999974737875e-06."""
    return float(f"{value:.7g}") if type(value) is float else value


def _with_head(config: ModelConfig, has_own: bool) -> ModelConfig:
    return replace(config, tie_word_embeddings=not has_own)


def _check_tensors(path: Path, config: ModelConfig, tensors: dict) -> None:
    shapes = state_shapes(config)
    names = gguf_names(config)
    for ours, theirs in names.items():
        if theirs not in tensors:
            raise UserError(f"{path}: the tensor {theirs} is missing.")
        tensor = tensors[theirs]
        # GGML lists dimensions from the innermost on, (in, out): for a matrix our own order.
        wanted = shapes[ours] if is_gguf_matrix(ours) else shapes[ours][::-1]
        if tuple(int(size) for size in tensor.shape) != wanted:
            shape = [int(size) for size in tensor.shape]
            raise UserError(f"{path}: {theirs} has the shape {shape}, not {list(wanted)}.")
        if tensor.tensor_type.name not in _TYPES:
            raise UserError(
                f"{path}: {theirs} has the type {tensor.tensor_type.name}, which loses too much to "
                f"go on with. Give a file of {', '.join(_TYPES)}."
            )
    if extra := set(tensors) - set(names.values()):
        raise UserError(f"{path}: the tensor {min(extra)[:100]!r} belongs to no GPT-2.")


def _to_tensor(path: Path, name: str, stored, config: ModelConfig) -> Tensor:
    gguf = import_gguf()
    values = gguf.quants.dequantize(stored.data, stored.tensor_type)
    tensor = torch.from_numpy(values.astype("float32")).view(*reversed(stored.shape.tolist()))
    if not is_finite(tensor):
        raise UserError(f"{path}: {stored.name} holds values that are not finite.")
    return tensor.t().contiguous() if is_gguf_matrix(name) else tensor


def _read_tokenizer(path: Path, reader) -> Tokenizer:
    kind, splitter = (_value(reader, f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if kind != "gpt2" or splitter not in _SPLITTERS:
        raise UserError(
            f"{path}: its tokenizer is {kind!r} with {splitter!r}, not GPT-2's byte pairs. "
            "Give the model's own, with --tokenizer."
        )
    tokens, types, lines, end = (
        _value(reader, f"tokenizer.ggml.{key}")
        for key in ("tokens", "token_type", "merges", "eos_token_id")
    )
    are_texts = all(
        type(listed) is list and all(type(one) is str for one in listed)
        for listed in (tokens, lines)
    )
    types = types if type(types) is list or not are_texts else [1] * len(tokens)
    if not are_texts or len(types) != len(tokens) or len(set(tokens)) != len(tokens):
        raise UserError(f"{path}: its tokens, their types and the merges do not belong together.")
    token_type = import_gguf().TokenType
    plain = {token_type.NORMAL: None, token_type.UNUSED: None}
    ids = {token: index for index, token in enumerate(tokens) if types[index] != token_type.UNUSED}
    added = tuple(
        AddedToken(index, token, special=types[index] == token_type.CONTROL, normalized=False)
        for token, index in ids.items()
        if types[index] not in plain
    )
    settings = BytePairSettings(
        added=added,
        roles=(("eos_token", tokens[end]),) if type(end) is int and end < len(tokens) else (),
    )
    vocabulary = {token: index for token, index in ids.items() if types[index] in plain}
    merges = [tuple(line.split(" ")) for line in lines]
    try:
        if any(len(pair) != 2 for pair in merges):
            raise UserError("a merge is not of two tokens")
        return BytePairTokenizer(vocabulary, merges, settings)
    except UserError as error:
        raise UserError(f"{path}: its tokenizer is broken: {error}.") from None
