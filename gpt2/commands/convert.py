"""python -m gpt2 convert: OpenAI's TensorFlow checkpoint to a model folder."""

from __future__ import annotations

import argparse
import sys

from gpt2.command_line import Parser

HELP = "OpenAI's TensorFlow checkpoint to a model folder"
DESCRIPTION = """\
Convert OpenAI's released checkpoint to a model folder, then compare every value with the source.

Needs TensorFlow: pip install tensorflow-cpu. Releases are kept in $XDG_CACHE_HOME/gpt2-from-scratch
(~/.cache/gpt2-from-scratch); the environment variable GPT2_RELEASE_URL names a mirror of OpenAI's
storage."""


def add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE", help="124M, 355M, 774M, 1558M or a checkpoint's directory")
    add("folder", metavar="FOLDER", help="the new model folder")
    add(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="number format of the weights (default: float32, as released)",
    )


def run(options: argparse.Namespace) -> None:
    from gpt2.openai.convert import convert

    made = convert(options.source, options.folder, options.dtype)
    rounded = "" if options.dtype == "float32" else f", rounded to {options.dtype}"
    print(made.folder)
    print(
        f"{made.parameters:,} parameters, {made.bytes / 1e6:,.1f} MB; read back, every value is "
        f"the checkpoint's{rounded}\nsha256 of model.safetensors: {made.sha256}",
        file=sys.stderr,
    )
