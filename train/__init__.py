"""Training: text to tokens, the step, and a run as a folder."""
