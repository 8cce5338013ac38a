"""python -m gpt2 score: how well a model predicts a text."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from gpt2.command_line import Parser, add_model_option, add_text_options, print_notes

HELP = "how well a model predicts a text"
DESCRIPTION = "Print the loss, perplexity and bits per byte of a model on a text file."


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="a text file or table (also .xz), or a folder",
    )
    add_text_options(parser)
    add_model_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> None:
    from gpt2.folder import load_model
    from gpt2.hub.resolve import resolve
    from gpt2.score import score_documents
    from gpt2.text import open_texts, read_documents

    model, tokenizer = load_model(resolve(options.model))
    texts, notes = open_texts([options.file], options.column, options.encoding)
    result = score_documents(model, tokenizer, read_documents(*texts))
    print_notes((*notes, *(note for one in texts for note in one.notes)))
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        print(
            f"loss {result.loss:.4f}, perplexity {result.perplexity:.2f}, "
            f"{result.bits_per_byte:.4f} bits per byte, {result.tokens:,} tokens"
        )
