"""GPT-2 from scratch: the model, its folder, tokenizers, sampling and generation."""
