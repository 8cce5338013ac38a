"""Training: text to tokens, the training step, and runs as folders."""
