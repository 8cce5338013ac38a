"""A model folder to what other programs run: a GGUF file, transformers.js' folder, a .bin."""

from __future__ import annotations

from pathlib import Path

import torch

from gpt2.errors import UserError
from gpt2.files import expand_home, new_folder, replacing, require_unused
from gpt2.folder import load_model, write_description
from gpt2.formats.gguf_write import GGUF_TYPES, write_gguf
from gpt2.formats.onnx_write import write_onnx_folder
from gpt2.formats.pytorch_read import BIN_FILE
from gpt2.hub.resolve import resolve
from gpt2.model import GPT2
from gpt2.tokenizer import Tokenizer

TARGETS = ("gguf", "onnx", "pytorch")


def export_model(source: str, out: str | Path, to: str, dtype: str = "float32") -> list[str]:
    """Write the model `source`, by folder or name, to the new file or folder `out`; what a person
    should know about it. `UserError` if `out` exists or the format cannot hold the model."""
    out = expand_home(out)
    require_unused(out)
    if out.exists() and to == "gguf":
        raise UserError(f"{out} is a folder. Give the name of the new file, as model.gguf.")
    types = tuple(GGUF_TYPES) if to == "gguf" else ("float32", "bfloat16", "float16")
    if dtype not in types or (to == "onnx" and dtype != "float32"):
        only = "float32 (model_quantized.onnx is there, too)" if to == "onnx" else ", ".join(types)
        raise UserError(f"--to {to} takes --dtype {only}, not {dtype}.")
    model, tokenizer = load_model(resolve(source), device="cpu", dtype=torch.float32)
    if to == "gguf":
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as aside:
            return write_gguf(aside, model, tokenizer, dtype, name=Path(source).name)
    with new_folder(out) as aside:
        if to == "onnx":
            return write_onnx_folder(aside, model, tokenizer)
        return _write_pytorch_folder(aside, model, tokenizer, dtype)


def _write_pytorch_folder(folder: Path, model: GPT2, tokenizer: Tokenizer, dtype: str) -> list[str]:
    """Hugging Face's layout as it was before safetensors."""
    kind = getattr(torch, dtype)
    write_description(folder, model.config, tokenizer, kind)
    state = {f"transformer.{name}": tensor.to(kind) for name, tensor in model.state_dict().items()}
    head = state.pop("transformer.lm_head.weight", state["transformer.wte.weight"])
    if not model.config.qkv_bias:
        for layer in range(model.config.n_layer):
            name = f"transformer.h.{layer}.attn.c_attn.bias"
            state[name] = torch.zeros(3 * model.config.n_embd, dtype=kind)
    torch.save(state | {"lm_head.weight": head}, folder / BIN_FILE)
    return [f"{BIN_FILE} is a pickle file: who opens it should trust you. Prefer the model folder."]
