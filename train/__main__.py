"""The command line: python -m train run | evaluate."""

from __future__ import annotations

import sys

from gpt2.command_line import Parser, build_commands, parse_and_run
from train.commands import evaluate, run

COMMANDS = {"run": run, "evaluate": evaluate}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    return parse_and_run(build_parser(), arguments)


def build_parser() -> Parser:
    return build_commands("python -m train", "Train and fine-tune GPT-2.", COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
