"""python -m gpt2 pull: a model of the Hugging Face Hub to a folder."""

from __future__ import annotations

import argparse

from gpt2.command_line import Parser

HELP = "a model of the Hugging Face Hub to a folder"
DESCRIPTION = "Copy a model of the Hugging Face Hub into a new model folder."


def add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("repository", metavar="REPO", help="user/name on the Hub")
    add("folder", metavar="FOLDER", help="the new model folder")
    add("--revision", metavar="REVISION", help="a branch, a tag or a commit [main]")


def run(options: argparse.Namespace) -> None:
    from huggingface_hub import get_token

    from gpt2.hub.transfer import pull

    print(pull(options.repository, options.folder, get_token(), options.revision))
