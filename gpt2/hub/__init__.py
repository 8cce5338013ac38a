"""The Hugging Face Hub: from names to model folders, and folders pushed and pulled."""
