"""The command line: python -m gpt2 generate | score | convert | push | pull | deploy."""

from __future__ import annotations

import sys

from gpt2.command_line import Parser, build_commands, parse_and_run
from gpt2.commands import convert, deploy, generate, pull, push, score

COMMANDS = {
    "generate": generate,
    "score": score,
    "convert": convert,
    "push": push,
    "pull": pull,
    "deploy": deploy,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 2 bad usage or input, 130 interrupted."""
    return parse_and_run(build_parser(), arguments)


def build_parser() -> Parser:
    return build_commands("python -m gpt2", "Generate with a GPT-2, and exchange models.", COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
