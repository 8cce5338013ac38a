"""Presets of KerasHub's GPT-2: config.json, model.weights.h5 and the assets of its tokenizer."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from gpt2.errors import UserError
from gpt2.formats.foreign_model import ForeignModel, Hints, find_tokenizer, read_beside
from gpt2.formats.state_dict import StateDict
from gpt2.tokenizer import BytePairTokenizer, Tokenizer

KERAS_FILE = "model.weights.h5"
_CLASS = "GPT2Backbone"
_OUTSIDE = {
    "reversible_embedding": ("wte", ("weight",)),
    "position_embedding": ("wpe", ("weight",)),
    "layer_normalization": ("ln_f", ("weight", "bias")),
}
_INSIDE = {
    "_self_attention_layer_norm": "ln_1",
    "_self_attention_layer/query_dense": "attn.query",
    "_self_attention_layer/key_dense": "attn.key",
    "_self_attention_layer/value_dense": "attn.value",
    "_self_attention_layer/output_dense": "attn.c_proj",
    "_feedforward_layer_norm": "ln_2",
    "_feedforward_intermediate_dense": "mlp.c_fc",
    "_feedforward_output_dense": "mlp.c_proj",
}
_LAYER = re.compile(r"layers/transformer_decoder(?:_(\d+))?/(.+)/vars/([01])")
_OTHER = re.compile(r"layers/(\w+)/vars/([01])")


def is_keras_preset(folder: Path) -> bool:
    """Whether a folder holds the weights of a preset, whichever model it is of."""
    return (folder / KERAS_FILE).is_file()


def open_keras_preset(folder: Path, hints: Hints) -> ForeignModel:
    """The model of a preset. `UserError` says what is wrong, or which other model it is."""
    described = read_beside(folder)
    config = described.get("config")
    if described.get("class_name") != _CLASS or type(config) is not dict:
        name = str(described.get("class_name"))[:60]
        raise UserError(f"{folder} is a preset of KerasHub's {name}, not of its {_CLASS}.")
    width, heads = config.get("hidden_dim"), config.get("num_heads")
    if any(type(value) is not int or value < 1 for value in (width, heads)):
        raise UserError(f"{folder}: config.json does not say hidden_dim and num_heads.")
    tensors = _read_tensors(folder / KERAS_FILE, width)
    model = StateDict(folder / KERAS_FILE, tensors, hints.heads or heads)
    tokenizer = _read_tokenizer(folder, model.config.vocab_size, hints)
    return ForeignModel("a preset of KerasHub", model.config, tokenizer, model.read)


def _read_tensors(path: Path, width: int) -> dict[str, Tensor]:
    """By our names, matrices as (out, in). Only what the file holds itself is read: a dataset of
    HDF5 may also lie in another file, or be packed a thousandfold."""
    h5py = _import_h5py()
    tensors: dict[str, Tensor] = {}

    def visit(name: str, item: object) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        ours = _our_name(path, name)
        held = not item.is_virtual and not item.external and item.chunks is None
        if not held or item.id.get_storage_size() != item.nbytes or item.dtype.kind != "f":
            raise UserError(f"{path}: {name[:100]} is not stored plainly in the file.")
        tensor = torch.from_numpy(item[()])
        if ours.endswith(".weight") and (".attn." in ours or ".mlp." in ours):
            kernel = tensor.reshape(width, -1) if "c_proj" not in ours else tensor
            tensor = kernel.reshape(-1, kernel.shape[-1]).t()
        elif ours.startswith("h."):
            tensor = tensor.flatten()  # biases of heads
        tensors[ours] = tensor

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    # A damaged file ends the library's reader in nearly any way.
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a sound file of weights: {str(error)[:200]}.") from None
    return tensors


def _our_name(path: Path, name: str) -> str:
    if found := _LAYER.fullmatch(name):
        layer, part, index = found.groups()
        if part in _INSIDE:
            return f"h.{int(layer or 0)}.{_INSIDE[part]}.{('weight', 'bias')[int(index)]}"
    if (found := _OTHER.fullmatch(name)) and found[1] in _OUTSIDE:
        ours, kinds = _OUTSIDE[found[1]]
        if int(found[2]) < len(kinds):
            return f"{ours}.{kinds[int(found[2])]}"
    raise UserError(f"{path}: {name[:100]!r} belongs to no GPT-2 of KerasHub.")


def _read_tokenizer(folder: Path, vocab_size: int, hints: Hints) -> Tokenizer:
    assets = folder / "assets" / "tokenizer"
    if hints.tokenizer is None and (assets / "vocabulary.json").is_file():
        tokenizer = BytePairTokenizer.from_files(assets / "merges.txt", assets / "vocabulary.json")
        if tokenizer.vocab_size > vocab_size:
            raise UserError(f"{assets} has more tokens than the model: it is another model's.")
        return tokenizer
    return find_tokenizer(assets, vocab_size, hints.tokenizer)


def _import_h5py():
    try:
        import h5py
    except ImportError:
        raise UserError(
            "KerasHub's presets take the library h5py, which is not installed (nothing else needs "
            "it): pip install h5py, then try again."
        ) from None
    return h5py
