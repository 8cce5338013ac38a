"""A model made ready to generate: by name, on the best device and in its fastest form."""

from __future__ import annotations

from gpt2.device import choose_device
from gpt2.folder import load_model
from gpt2.hub.resolve import resolve
from gpt2.model import GPT2
from gpt2.prepack import prepack
from gpt2.tokenizer import Tokenizer


def load_for_inference(name: str, device: str = "auto") -> tuple[GPT2, Tokenizer]:
    """The model and tokenizer for a `resolve` name, on a device that `choose_device` takes. For
    generation only: it is not trainable."""
    choose_device(device)  # before anything is downloaded for it
    model, tokenizer = load_model(resolve(name), device)
    return prepack(model), tokenizer
