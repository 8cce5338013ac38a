"""python -m gpt2 score: how well a model predicts a text."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from gpt2.command_line import (
    Parser,
    add_device_option,
    add_model_option,
    add_text_options,
    print_json,
    print_notes,
)
from gpt2.settings import add_flags, given_flags, settings_of

HELP = "how well a model predicts a text"
DESCRIPTION = """\
Print the loss, perplexity and bits per byte of a model on a text file. Windows overlap by half, so
that tokens are predicted from half a window or more. `python -m train evaluate` is the same with
windows side by side, as training validates."""
FILE_MEANING = "a text file or table (also .xz), or a folder"


def add_arguments(parser: Parser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help=FILE_MEANING)
    add_score_options(parser, overlap=True)


def run(options: argparse.Namespace) -> None:
    from gpt2.formats.incoming import as_model_folder

    with as_model_folder(options.model) as options.model:
        print_score(options, options.file, overlap=True)


def add_score_options(parser: Parser, overlap: bool) -> None:
    """The flags that `score` and `evaluate` share; they differ in the stride that nobody chose."""
    from gpt2.score import Measure

    add_text_options(parser)
    add_model_option(parser)
    add_device_option(parser)
    window, stride, dtype = settings_of(Measure)
    if overlap:
        stride = replace(stride, asked="half the window")
    add_flags(parser, (window, stride, dtype))
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def print_score(options: argparse.Namespace, file: Path, overlap: bool) -> None:
    """Score a file as the options say, in float32 weights as training has them."""
    import torch

    from gpt2.device import choose_device
    from gpt2.folder import load_model
    from gpt2.hub.resolve import resolve
    from gpt2.score import Measure, score_texts
    from gpt2.text import open_texts

    measure = Measure(**given_flags(options, settings_of(Measure)))
    device = str(choose_device(options.device))  # before anything is downloaded for it
    model, tokenizer = load_model(resolve(options.model), device, torch.float32)
    texts, notes = open_texts([file], options.column, options.encoding)
    result = score_texts(model, tokenizer, texts, measure.settled(model, overlap))
    print_notes((*notes, *(note for one in texts for note in one.notes)))
    print_json(asdict(result)) if options.json else print(result)
