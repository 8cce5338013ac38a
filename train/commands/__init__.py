"""The commands of `python -m train`, a module each: HELP, DESCRIPTION, add_arguments, run."""
