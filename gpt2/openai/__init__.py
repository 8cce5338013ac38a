"""OpenAI's released TensorFlow checkpoints, to a model folder and back."""
