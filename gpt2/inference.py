"""A model made ready to generate: by name, on the best device and in its fastest form."""

from __future__ import annotations

from gpt2.device import choose_device
from gpt2.folder import load_model
from gpt2.hub.resolve import resolve
from gpt2.model import GPT2
from gpt2.prepack import prepack
from gpt2.tokenizer import Tokenizer

# Below this, the weights stay in the cache, and calling a packed product costs more than it saves:
# the storyteller makes 281 tokens per second plain and 199 packed.
_WORTH_PACKING = 20e6  # parameters


def load_for_inference(name: str, device: str = "auto") -> tuple[GPT2, Tokenizer]:
    """The model and tokenizer for a `resolve` name, on a device that `choose_device` takes. For
    generation only: it is not trainable."""
    choose_device(device)  # before anything is downloaded for it
    model, tokenizer = load_model(resolve(name), device)
    return model if model.parameter_count() < _WORTH_PACKING else prepack(model), tokenizer
