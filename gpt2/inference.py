"""A model made ready to generate: by name, on the best device and in its fastest form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from gpt2.device import choose_device
from gpt2.folder import empty_model, load_model_shape, load_weights
from gpt2.hub.resolve import resolve
from gpt2.int8 import has_int8, quantize_int8
from gpt2.int8_gate import Verdict, gate_loss, remember, remembered
from gpt2.model import GPT2, ModelConfig
from gpt2.precision import number_format
from gpt2.prepack import prepack
from gpt2.tokenizer import Tokenizer

INFERENCE_FORMATS = ("auto", "float32", "bfloat16", "float16", "int8")
# Below this many parameters the weights stay in the processor's cache, and reading half as many
# bytes gains little.
_LARGE = 20e6


def load_for_inference(
    name: str, device: str = "auto", dtype: str = "auto"
) -> tuple[GPT2, Tokenizer]:
    """The model and tokenizer for a `resolve` name, on a device that `choose_device` takes, in one
    of `INFERENCE_FORMATS`; "auto" is what `fastest_format` says. For generation only: it is not
    trainable. `UserError` for a name, a device or a format that cannot be."""
    where = choose_device(device)  # before anything is downloaded for it
    folder = resolve(name)
    config, tokenizer = load_model_shape(folder)

    def load(numbers: str) -> GPT2:
        return load_weights(folder, config, device, numbers)

    chosen = fastest_format(config, where) if dtype == "auto" else dtype
    if chosen != "int8":
        return prepack(load(chosen)), tokenizer
    if dtype == "int8":
        return quantize_int8(load("float32")), tokenizer
    return _load_int8_if_good(folder, tokenizer, load), tokenizer


def _load_int8_if_good(folder: Path, tokenizer: Tokenizer, load: Callable[[str], GPT2]) -> GPT2:
    """In eight bits where they cost next to nothing; measured the first time, about a second."""
    verdict = remembered(folder)
    if verdict is None:
        model = load("float32")
        before = gate_loss(model, tokenizer)
        model = quantize_int8(model)
        verdict = Verdict(before, gate_loss(model, tokenizer))
        remember(folder, verdict)
    elif verdict.is_good:
        model = quantize_int8(load("float32"))
    return model if verdict.is_good else prepack(load(_without_int8()))


def fastest_format(config: ModelConfig, device: torch.device) -> str:
    """On a CPU int8 for large models, if the processor has products for it, as each token reads all
    weights once; else bfloat16, if it has those. "auto", as the file has them, elsewhere."""
    if device.type != "cpu":
        return "auto"
    if empty_model(config).parameter_count() <= _LARGE:
        return "float32"
    return "int8" if torch.cpu._is_vnni_supported() and has_int8() else _without_int8()


def _without_int8() -> str:
    return number_format("auto", torch.device("cpu"))
