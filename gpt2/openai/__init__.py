"""OpenAI's released TensorFlow checkpoints, to model folders and back."""
