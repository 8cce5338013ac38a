"""A model made ready to answer: by name, on the device and in the form that generates fastest."""

from __future__ import annotations

from gpt2.folder import load_model
from gpt2.hub.resolve import resolve
from gpt2.model import GPT2
from gpt2.prepack import prepack
from gpt2.tokenizer import Tokenizer

# Below, the weights stay in the cache and a packed product's call costs more than it saves: the
# storyteller does 281 tokens a second plain and 199 packed.
_WORTH_PACKING = 20e6  # parameters


def load_for_inference(name: str) -> tuple[GPT2, Tokenizer]:
    """The model and tokenizer of a `resolve` name. For generation only: it is not trainable."""
    model, tokenizer = load_model(resolve(name))
    return model if model.parameter_count() < _WORTH_PACKING else prepack(model), tokenizer
