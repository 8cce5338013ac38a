"""python -m gpt2 score: how well a model predicts a text."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from gpt2.command_line import Parser, add_model_option

HELP = "how well a model predicts a text"
DESCRIPTION = "Print the loss, perplexity and bits per byte of a model on a text file."


def add_arguments(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="a text file (.xz is unpacked)")
    add_model_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> None:
    from gpt2.folder import load_model
    from gpt2.hub.resolve import resolve
    from gpt2.score import score_documents
    from gpt2.text import TextFile, read_documents

    model, tokenizer = load_model(resolve(options.model))
    result = score_documents(model, tokenizer, read_documents(TextFile(options.file)))
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        print(
            f"loss {result.loss:.4f}, perplexity {result.perplexity:.2f}, "
            f"{result.bits_per_byte:.4f} bits per byte, {result.tokens:,} tokens"
        )
