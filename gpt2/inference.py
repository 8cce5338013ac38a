"""A model made ready to answer: by name, on the device and in the form that generates fastest."""

from __future__ import annotations

from gpt2.folder import load_model
from gpt2.hub import resolve
from gpt2.model import GPT2
from gpt2.prepack import prepack
from gpt2.tokenizer import Tokenizer


def load_for_inference(name: str) -> tuple[GPT2, Tokenizer]:
    """The model and tokenizer of a `resolve` name. For generation only: it is not trainable."""
    model, tokenizer = load_model(resolve(name))
    return prepack(model), tokenizer
