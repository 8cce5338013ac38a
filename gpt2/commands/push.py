"""python -m gpt2 push: a model folder to the Hugging Face Hub."""

from __future__ import annotations

import argparse
import sys

from gpt2.command_line import Parser
from gpt2.errors import UserError

HELP = "a model folder to the Hugging Face Hub"
DESCRIPTION = """\
Put a model folder on the Hugging Face Hub, private unless told otherwise, and print its address.
The token is the one of `hf auth login` or HF_TOKEN."""
DECLINED = 1  # exit status when the user answers no


def add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="a model folder")
    add("repository", metavar="REPO", help="user/name on the Hub")
    add("--public", action="store_true", help="make a new repository public")
    add("--revision", metavar="BRANCH", help="push to this branch, created if it doesn't exist")
    add("--pull-request", action="store_true", help="propose to an existing repository instead")
    add("--yes", action="store_true", help="replace an existing repository's files without asking")


def run(options: argparse.Namespace) -> int:
    from huggingface_hub import get_token

    from gpt2.hub.transfer import RepositoryExists, push

    def push_now(overwrite: bool) -> str:
        return push(
            options.folder,
            options.repository,
            get_token(),
            private=not options.public,
            revision=options.revision,
            pull_request=options.pull_request,
            overwrite=overwrite,
        )

    try:
        address = push_now(options.yes)
    except RepositoryExists as error:
        if not _agrees(str(error)):
            print("Nothing was pushed.", file=sys.stderr)
            return DECLINED
        address = push_now(overwrite=True)
    print(address)
    return 0


def _agrees(fact: str) -> bool:
    """Ask on the terminal; without one, say which flag answers."""
    if not sys.stdin.isatty():
        raise UserError(f"{fact} Say --yes to replace its files, or choose another name.")
    print(f"{fact} Replace its files? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
