"""The commands of `python -m gpt2`, a module each: HELP, DESCRIPTION, add_arguments, run."""
