"""What all command lines here share: how commands are listed, how they fail, common flags."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from gpt2.errors import UserError

EXIT_DONE, EXIT_USAGE, EXIT_INTERRUPTED = 0, 2, 130


class Parser(argparse.ArgumentParser):
    """argparse with one clear line for a wrong call, as for every other wrong input.

    `fill` adds the arguments when this parser is first used: those of a command, which may need
    PyTorch to know its settings, when that command is called.
    """

    def __init__(self, *given, fill: Callable[[Parser], None] | None = None, **named) -> None:
        super().__init__(*given, **named)
        self._fill = fill

    def parse_known_args(self, args=None, namespace=None):
        fill, self._fill = self._fill, None
        if fill:
            fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"error: {message} ({self.prog} --help shows the options)\n")


def build_commands(prog: str, description: str, commands: dict) -> Parser:
    """A parser of the commands in a table: name to a module with HELP, DESCRIPTION,
    add_arguments(parser) and run(options)."""
    parser = Parser(prog=prog, description=description)
    rows = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for name, module in commands.items():
        row = rows.add_parser(
            name,
            help=module.HELP,
            description=module.DESCRIPTION,
            fill=module.add_arguments,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        row.set_defaults(run=module.run)
    return parser


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
        help="a model folder, 124M, 355M, 774M, 1558M, user/repo or storyteller [storyteller]",
    )
