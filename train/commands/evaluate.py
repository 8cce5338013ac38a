"""python -m train evaluate: the loss of a model on a text."""

from __future__ import annotations

import argparse
from pathlib import Path

from gpt2.command_line import Parser
from gpt2.commands.score import FILE_MEANING, add_score_options, print_score

HELP = "the loss of a model on a text"
DESCRIPTION = """\
The loss that training reports as validation loss, over a whole file: windows side by side, every
document followed by an end of text. A run names its window, stride and number format at its end;
with the same ones the values are the same. `python -m gpt2 score` lets windows overlap by half."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--data", required=True, type=Path, metavar="FILE", help=FILE_MEANING)
    add_score_options(parser, overlap=False)


def run(options: argparse.Namespace) -> None:
    print_score(options, options.data, overlap=False)
