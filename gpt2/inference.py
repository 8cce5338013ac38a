"""A model made ready to generate: by name, on the best device and in its fastest form."""

from __future__ import annotations

import torch

from gpt2.device import choose_device
from gpt2.folder import empty_model, load_model_shape, load_weights
from gpt2.hub.resolve import resolve
from gpt2.model import GPT2, ModelConfig
from gpt2.precision import number_format
from gpt2.prepack import prepack
from gpt2.tokenizer import Tokenizer

INFERENCE_FORMATS = ("auto", "float32", "bfloat16", "float16")
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
    chosen = fastest_format(config, where) if dtype == "auto" else dtype
    return prepack(load_weights(folder, config, device, chosen)), tokenizer


def fastest_format(config: ModelConfig, device: torch.device) -> str:
    """On a CPU bfloat16 for large models, if the processor has it; each token reads all weights
    once. "auto", as the file has them, elsewhere."""
    if device.type != "cpu":
        return "auto"
    with torch.device("meta"):
        parameters = empty_model(config).parameter_count()
    return number_format("auto", device) if parameters > _LARGE else "float32"
