"""The model folder, the one thing that passes between the parts: Hugging Face's GPT-2 layout.

config.json, model.safetensors, generation_config.json, the tokenizer's files; a model card beside
them is `gpt2.model_card`'s. Reading is strict: what is missing, unknown, misshapen or not finite is
refused by name, and nothing is allocated that the file does not hold.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gpt2.device import choose_device, has_float64
from gpt2.errors import UserError
from gpt2.files import expand_home, read_json, replacing, write_json
from gpt2.foreign import explain_foreign, models_inside
from gpt2.model import GPT2, ModelConfig
from gpt2.tokenizer import TOKENIZER_FILES, Tokenizer, has_tokenizer, load_tokenizer

# What a model folder is made of, as patterns; a model card beside it.
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    *TOKENIZER_FILES,
    "README.md",
)
# Files of other models, which readers would take instead of those.
CONFLICTING_FILES = (
    "pytorch_model.bin",
    "pytorch_model-*.bin",
    "pytorch_model.bin.index.json",
)
# Far above any GPT-2, and small enough that building the empty modules costs nothing.
LIMITS = {
    "vocab_size": 2_000_000,
    "n_positions": 1_000_000,
    "n_embd": 65_536,
    "n_layer": 1_000,
    "n_head": 1_000,
}
# What a GPT-2 config may say beside its shape; any other value is another architecture.
FIXED = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu", "gelu_python"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False, True),
    "add_cross_attention": (False,),
}
_EXACT_GELU = ("gelu", "gelu_python")  # of the activation functions; the others are by tanh
STORED_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MASK = re.compile(r"h\.\d+\.attn\.(masked_)?bias")  # constants that older files carry along
# What torch.compile, DistributedDataParallel, Lightning, FSDP and recomputed activations put into
# names. No part of a GPT-2 is called so.
_WRAPPERS = {"_orig_mod", "module", "model", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def is_whole(folder: Path) -> bool:
    """Whether weights and tokenizer are all there: a download may have broken off."""
    try:
        return all(path.is_file() for path in weight_files(folder)) and has_tokenizer(folder)
    except UserError:
        return False


def load_model(
    folder: str | Path, device: str = "auto", dtype: torch.dtype | str = "auto"
) -> tuple[GPT2, Tokenizer]:
    """The model, in eval mode, and the tokenizer of a folder.

    `device` is what `choose_device` takes: "auto" is the GPU where there is one. `dtype`, a name of
    `DTYPES` or one of PyTorch's types of floating-point numbers, "auto" is float32 on a CPU and the
    file's own on a GPU.
    `UserError` says what about the folder, or the type, is wrong.
    """
    dtype = _as_dtype(dtype)  # before gigabytes are read for nothing
    folder = expand_home(folder)
    config, tokenizer = load_model_shape(folder)
    return load_weights(folder, config, device, dtype), tokenizer


def load_weights(
    folder: Path, config: ModelConfig, device: str = "auto", dtype: torch.dtype | str = "auto"
) -> GPT2:
    """As `load_model`, of a folder whose config has been read."""
    dtype = _as_dtype(dtype)
    where = choose_device(device)
    tensors = _read_tensors(folder, config)
    if dtype == "auto":
        dtype = torch.float32 if where.type == "cpu" else tensors["wte.weight"].dtype
        if dtype == torch.float64 and not has_float64(where):
            dtype = torch.float32
    model = empty_model(config)
    # Each tensor leaves `tensors` as it is converted, so that two copies of all never exist.
    state = {name: tensors.pop(name).to(where, dtype) for name in list(tensors)}
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def load_model_shape(folder: Path) -> tuple[ModelConfig, Tokenizer]:
    """The config and the tokenizer of a folder, without its weights. `UserError` likewise."""
    if not (folder / "config.json").is_file():
        raise UserError(explain_foreign(folder))
    config = read_config(folder)
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size > config.vocab_size:
        last = tokenizer.decode([tokenizer.vocab_size - 1])
        raise UserError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model only "
            f"{config.vocab_size}. The files do not belong together, or tokens were added (the "
            f"last is {last!r}) and the model not resized: then remove them from the tokenizer."
        )
    return config, tokenizer


def _as_dtype(dtype: torch.dtype | str) -> torch.dtype | str:
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        return dtype
    if type(dtype) is not str or dtype not in ("auto", *DTYPES):
        raise UserError(f"dtype must be auto, {', '.join(DTYPES)}, not {str(dtype)[:40]!r}.")
    return DTYPES.get(dtype, dtype)


class _SkipInit(TorchFunctionMode):
    """Leaves out the drawing of initial values, which on "meta" imports PyTorch's compiler: 1 s."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is nn.init.normal_:
            return kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def empty_model(config: ModelConfig) -> GPT2:
    """A model of shapes only, on the device "meta": nothing is allocated."""
    with torch.device("meta"), _SkipInit():
        return GPT2(config)


def save_model(folder: str | Path, model: GPT2, tokenizer: Tokenizer) -> None:
    """Write a folder that `load_model` and `transformers` open. Each file is replaced whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_description(folder, model.config, tokenizer, _dtype_of(model))
    with replacing(folder / "model.safetensors") as aside:
        save_file(_file_tensors(model), aside, metadata={"format": "pt"})
        shutil.copymode(folder / "config.json", aside)  # safetensors lets only the owner read


def write_description(
    folder: Path, config: ModelConfig, tokenizer: Tokenizer, dtype: torch.dtype
) -> None:
    """Every file of a model folder but its weights (of type `dtype`) and its card."""
    write_json(folder / "config.json", describe_config(config, tokenizer, dtype))
    ends = {"bos_token_id": tokenizer.end_of_text, "eos_token_id": tokenizer.end_of_text}
    write_json(folder / "generation_config.json", ends)
    tokenizer.save(folder)


def read_default_prompt(folder: Path) -> str:
    """What this model continues where a person gives no prompt: "default_prompt" of
    generation_config.json; "" where there is none, and a text begins after the end of another.

    The field is ours, and other programs pass over it. `save_model` leaves it out: a model that was
    tuned on other texts begins as they do. `UserError` if it is no text.
    """
    path = folder / "generation_config.json"
    described = read_json(path) if path.is_file() else {}
    prompt = described.get("default_prompt", "") if type(described) is dict else None
    if type(prompt) is not str:
        raise UserError(f'{path}: "default_prompt" is not a text. Remove it, or write one.')
    return prompt


def read_config(folder: Path) -> ModelConfig:
    """The shape that config.json describes, bounded and checked to be GPT-2's architecture."""
    described = read_json(folder / "config.json")
    if type(described) is not dict:
        raise UserError(f"{folder / 'config.json'} is not a JSON object.")
    if "model_type" not in described:
        inside = models_inside(folder)
        hint = f" The model may be {inside}." if inside else ""
        raise UserError(f'{folder / "config.json"} does not say "model_type": "gpt2".{hint}')
    for name, allowed in FIXED.items():
        if name in described and described[name] not in allowed:
            raise UserError(
                f"{folder} is not a GPT-2 that this program reads: {name} is {described[name]!r}, "
                f"not {allowed[0]!r}."
            )
    shape = {name: described.get(name, getattr(ModelConfig, name)) for name in LIMITS}
    for name, value in shape.items():
        if type(value) is not int or not 1 <= value <= LIMITS[name]:
            raise UserError(
                f"{folder}: {name} is {value!r}, not a number from 1 to {LIMITS[name]}."
            )
    try:
        return ModelConfig(
            **shape,
            dropout=described.get("resid_pdrop", 0.0),
            tie_word_embeddings=described.get("tie_word_embeddings", True) is not False,
            qkv_bias=described.get("qkv_bias", True) is not False,
            **_read_relative(described, 4 * shape["n_embd"]),
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{folder}: {error}.") from None


def _read_relative(described: dict, usual_inner: int) -> dict[str, object]:
    """The fields in which close relatives differ. `ValueError` for a value that none can have."""
    inner = described.get("n_inner")
    if inner is not None and not (type(inner) is int and 1 <= inner <= 8 * LIMITS["n_embd"]):
        raise ValueError(f"n_inner is {inner!r}, not a number from 1 to {8 * LIMITS['n_embd']}")
    epsilon = described.get("layer_norm_epsilon", 1e-5)
    if type(epsilon) is not float or not 0.0 < epsilon < 1.0:
        raise ValueError(f"layer_norm_epsilon is {epsilon!r}, not a number between 0 and 1")
    return {
        "n_inner": None if inner == usual_inner else inner,
        "layer_norm_epsilon": epsilon,
        "exact_gelu": described.get("activation_function") in _EXACT_GELU,
        "scale_attn_by_inverse_layer_idx": bool(described.get("scale_attn_by_inverse_layer_idx")),
    }


def describe_config(config: ModelConfig, tokenizer: Tokenizer, dtype: torch.dtype) -> dict:
    """config.json as `transformers`, vLLM and llama.cpp's converter read it."""
    by_layer = config.scale_attn_by_inverse_layer_idx
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.n_positions,
        "n_ctx": config.n_positions,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.n_inner,
        "activation_function": "gelu" if config.exact_gelu else "gelu_new",
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "initializer_range": 0.02,
        "bos_token_id": tokenizer.end_of_text,
        "eos_token_id": tokenizer.end_of_text,
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": str(dtype).removeprefix("torch."),
        **({"scale_attn_by_inverse_layer_idx": True} if by_layer else {}),
        # Not a field of transformers: there a model without these biases is one with zeros.
        **({} if config.qkv_bias else {"qkv_bias": False}),
    }


def _dtype_of(model: GPT2) -> torch.dtype:
    return model.wte.weight.dtype


def _file_tensors(model: GPT2) -> dict[str, Tensor]:
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    if not model.config.qkv_bias:
        for layer in range(model.config.n_layer):
            zeros = torch.zeros(3 * model.config.n_embd, dtype=_dtype_of(model))
            tensors[f"h.{layer}.attn.c_attn.bias"] = zeros
    return tensors


def _read_tensors(folder: Path, config: ModelConfig) -> dict[str, Tensor]:
    """Exactly the tensors of a `GPT2(config)`, by its names."""
    state = empty_model(config).state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    # What a file may repeat although the model does not have it, each with a check below.
    repeatable = {} if "lm_head.weight" in shapes else {"lm_head.weight": shapes["wte.weight"]}
    if not config.qkv_bias:
        for layer in range(config.n_layer):
            repeatable[f"h.{layer}.attn.c_attn.bias"] = [3 * config.n_embd]
    tensors: dict[str, Tensor] = {}
    redundant: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt", backend="pread") as file:
                _collect(file, shapes, repeatable, tensors, redundant)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is not a readable safetensors file: {error}.") from None
    if missing := [name for name in shapes if name not in tensors]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{folder}: the tensor {missing[0]}{more} is missing.")
    for name, tensor in redundant.items():
        if name == "lm_head.weight" and not torch.equal(tensor, tensors["wte.weight"]):
            raise UserError(
                f"{folder}: lm_head.weight differs from wte.weight although the config ties them."
            )
        if name.endswith("c_attn.bias") and tensor.any():
            raise UserError(
                f'{folder}: {name} is not zero although the config says "qkv_bias": false.'
            )
    return tensors


def _collect(file, shapes: dict, repeatable: dict, tensors: dict, redundant: dict) -> None:
    """Sort one file's tensors into those the model has and those that only repeat something."""
    for stored in sorted(file.keys()):
        parts = [part for part in stored.split(".") if part not in _WRAPPERS]
        name = ".".join(parts).removeprefix("transformer.")
        if _MASK.fullmatch(name) and name not in shapes:
            continue
        shape = shapes.get(name) or repeatable.get(name)
        if shape is None:
            raise UserError(f"the tensor {stored!r} belongs to no GPT-2.")
        if name in tensors or name in redundant:
            raise UserError(f"the tensor {name} is there twice.")
        header = file.get_slice(stored)
        if header.get_dtype() not in STORED_DTYPES:
            raise UserError(
                f"{name} has the type {header.get_dtype()}, not one of {', '.join(STORED_DTYPES)}."
            )
        if header.get_shape() != shape:
            raise UserError(f"{name} has the shape {header.get_shape()}, not {shape}.")
        tensor = file.get_tensor(stored)
        if not is_finite(tensor):
            raise UserError(f"{name} holds values that are not finite (NaN or infinity).")
        (tensors if name in shapes else redundant)[name] = tensor


def is_finite(tensor: Tensor) -> bool:
    """Smallest and largest value are NaN or infinite where any value is. Unlike `isfinite` of all
    values, that reads the weights once and makes no second tensor of their size."""
    return all(math.isfinite(value) for value in tensor.aminmax())


def has_weights(folder: Path) -> bool:
    """Whether a model folder's weights, or the index of their shards, are in a folder."""
    return any((folder / name).is_file() for name in (_WEIGHTS, _INDEX))


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards that its index names."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not has_weights(folder):
        raise UserError(
            f"{folder} has no model.safetensors. (Weights in pickle files, .bin or .pt, are not "
            "read: they can run code. Convert them, which runs nothing: python -m gpt2 convert.)"
        )
    return shards_of(folder / _INDEX)


def shards_of(index: Path) -> list[Path]:
    """The files that an index of weights names, all beside it; `UserError` for any other."""
    described, folder = read_json(index), index.parent
    shards = described.get("weight_map") if type(described) is dict else None
    if type(shards) is not dict or not all(type(shard) is str for shard in shards.values()):
        raise UserError(f"{index} names no shards.")
    names = sorted(set(shards.values()))
    for name in names:
        if name != Path(name).name or not os.path.isfile(folder / name):
            raise UserError(f"{index} names {name!r}, which is not a file in this folder.")
    return [folder / name for name in names]
