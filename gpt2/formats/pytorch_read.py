"""Checkpoints of PyTorch: nanoGPT's, minGPT's, bare state dicts, Hugging Face folders of .bin.

They differ in where the state dict lies, in what is written beside it, and in their GELU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gpt2.errors import UserError
from gpt2.folder import read_config, shards_of
from gpt2.formats.foreign_model import ForeignModel, Hints, find_tokenizer, read_beside
from gpt2.formats.pickles import read_checkpoint, tensors_in
from gpt2.formats.state_dict import StateDict

BIN_FILE, BIN_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_INSIDE = ("model", "state_dict", "model_state_dict", "module")  # where a checkpoint keeps it
_HEADS = ("n_head", "n_heads", "num_heads", "num_attention_heads")
# minGPT names its models; of two of them the number of heads is written nowhere else.
_MINGPT_HEADS = {
    "gpt-mini": 6, "gpt-micro": 4, "gpt-nano": 3, "gopher-44m": 16, "openai-gpt": 12,
    "gpt2": 12, "gpt2-medium": 16, "gpt2-large": 20, "gpt2-xl": 25,
}  # fmt: skip


@dataclass(frozen=True)
class _Found:
    """A state dict and what its checkpoint, or the config.json beside it, says."""

    tensors: Mapping[str, Tensor]
    said: dict
    is_nanogpt: bool = False


def open_pytorch_file(path: Path, hints: Hints) -> ForeignModel:
    """The model in a file of `torch.save` or of safetensors. `UserError` says what about it is
    wrong, or which of `hints` it takes."""
    found = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    fields = {} if found.is_nanogpt else _fields_beside(path.parent)
    fields["exact_gelu"] = _has_exact_gelu(found, fields, hints)
    model = StateDict(path, found.tensors, hints.heads or _heads(found.said), **fields)
    kind = "nanoGPT's checkpoint" if found.is_nanogpt else "a state dict of PyTorch"
    tokenizer = find_tokenizer(path.parent, model.config.vocab_size, hints.tokenizer)
    return ForeignModel(kind, model.config, tokenizer, model.read)


def open_bin_folder(folder: Path, hints: Hints) -> ForeignModel:
    """The model of a Hugging Face folder whose weights are pytorch_model.bin, or shards of it."""
    config = read_config(folder)
    tensors: dict[str, Tensor] = {}
    for path in _bin_files(folder):
        content = read_checkpoint(path)
        for name, tensor in tensors_in(path, content if type(content) is not list else {}).items():
            if name in tensors:
                raise UserError(f"{path}: the tensor {name} is in another shard, too.")
            tensors[name] = tensor
    model = StateDict(folder, tensors, config.n_head, **_fields_beside(folder))
    for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_inner"):
        says, has = getattr(config, name), getattr(model.config, name)
        if says != has:
            raise UserError(f"{folder}: config.json says {name} {says}, the weights have {has}.")
    if config.tie_word_embeddings and not model.config.tie_word_embeddings:
        raise UserError(
            f"{folder}: lm_head.weight differs from wte.weight, but config.json ties them."
        )
    tokenizer = find_tokenizer(folder, config.vocab_size, hints.tokenizer)
    return ForeignModel("a Hugging Face folder", model.config, tokenizer, model.read)


def _bin_files(folder: Path) -> list[Path]:
    if (folder / BIN_FILE).is_file():
        return [folder / BIN_FILE]
    return shards_of(folder / BIN_INDEX)


def _read_safetensors(path: Path) -> _Found:
    try:
        return _Found(load_file(path), read_beside(path.parent))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}.") from None


def _read_pickle(path: Path) -> _Found:
    content = read_checkpoint(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds no state dict, but a {type(content).__name__}.")
    inside = next((content[key] for key in _INSIDE if isinstance(content.get(key), Mapping)), None)
    tensors = tensors_in(path, dict(content if inside is None else inside))
    said = read_beside(path.parent)
    for key in ("config", "model_args", "hparams"):
        if isinstance(content.get(key), dict):
            said = said | content[key]
    return _Found(tensors, said, isinstance(content.get("model_args"), dict))


def _heads(said: dict) -> int | None:
    """n_head, as nanoGPT, minGPT (in "model") or anybody else writes it."""
    for place in (said, said.get("model")):
        if type(place) is not dict:
            continue
        for name in _HEADS:
            if type(place.get(name)) is int:
                return place[name]
        if place.get("model_type") in _MINGPT_HEADS:
            return _MINGPT_HEADS[place["model_type"]]
    return None


def _has_exact_gelu(found: _Found, fields: dict[str, object], hints: Hints) -> bool:
    """nanoGPT's is exact, as `nn.GELU()`; OpenAI's and everybody's who followed it is not."""
    if hints.activation is not None:
        return hints.activation == "gelu"
    return found.is_nanogpt or bool(fields.get("exact_gelu"))


def _fields_beside(folder: Path) -> dict[str, object]:
    """What no shape shows and a Hugging Face config.json says; empty where there is none."""
    if read_beside(folder).get("model_type") != "gpt2":
        return {}
    config = read_config(folder)
    names = ("layer_norm_epsilon", "exact_gelu", "scale_attn_by_inverse_layer_idx", "dropout")
    return {name: getattr(config, name) for name in names}
