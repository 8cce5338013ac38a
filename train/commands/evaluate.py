"""python -m train evaluate: the loss of a model on a text."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from gpt2.command_line import Parser, add_model_option, add_text_options, print_notes
from gpt2.errors import UserError

HELP = "the loss of a model on a text"
DESCRIPTION = "The loss that training reports as validation loss, over a whole file."


def add_arguments(parser: Parser) -> None:
    add_model_option(parser)
    parser.add_argument(
        "--data", required=True, type=Path, metavar="FILE", help="a text file or table"
    )
    add_text_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> None:
    import torch

    from gpt2.folder import load_model
    from gpt2.hub.resolve import resolve
    from gpt2.score import make_score, mean_loss
    from gpt2.text import open_texts, read_documents

    model, tokenizer = load_model(resolve(options.model))
    texts, notes = open_texts([options.data], options.column, options.encoding)
    text = "".join(read_documents(*texts))
    print_notes((*notes, *(note for one in texts for note in one.notes)))
    ids, window = torch.tensor(tokenizer.encode(text)), model.config.n_positions
    loss = mean_loss(model, ids, window, window)
    if loss is None:
        raise UserError("There is nothing to evaluate: the text has fewer than two tokens.")
    count = len(ids) - 1
    result = make_score(loss * count, count, len(text.encode("utf-8")))
    print(json.dumps(asdict(result)) if options.json else result)
