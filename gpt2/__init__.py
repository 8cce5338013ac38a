"""GPT-2 from scratch: the model, its folder, tokenizers, sampling and generation."""

__version__ = "0.1.0"
