"""The Hugging Face Hub: names to model folders, model folders out and in."""
