"""What all command lines here share: how they fail, and the flags they have in common."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from gpt2.errors import UserError

EXIT_DONE, EXIT_USAGE, EXIT_INTERRUPTED = 0, 2, 130


class Parser(argparse.ArgumentParser):
    """argparse with one clear line for a wrong call, as for every other wrong input."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"error: {message} ({self.prog} --help shows the options)\n")


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command, which may return a status, and turn all its ends into an exit status."""
    try:
        status = command()
        sys.stdout.flush()
        return status or EXIT_DONE
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader, `head` say, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE


def add_model_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="storyteller",
        metavar="NAME",
        help="a model folder, 124M, 355M, 774M, 1558M, user/repo or storyteller",
    )


def number(text: str) -> int | float:
    """A flag's number; `Sampling` judges it, so that every way in gives the same message."""
    try:
        return int(text)
    except ValueError:
        return float(text)
