"""The commands that bring models in and out: convert, push, pull."""

from __future__ import annotations

import argparse
import sys

from gpt2.errors import UserError

DECLINED = 1  # exit status when the user answers no


def add_convert(commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="OpenAI's TensorFlow checkpoint to a model folder",
        description=(
            "Convert OpenAI's released checkpoint to a model folder, then compare every value with "
            "the source. Needs TensorFlow: pip install tensorflow-cpu. Releases are kept in "
            "$XDG_CACHE_HOME/gpt2-from-scratch (~/.cache/gpt2-from-scratch); the environment "
            "variable GPT2_RELEASE_URL names a mirror of OpenAI's storage."
        ),
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="124M, 355M, 774M, 1558M or a checkpoint's directory")
    add("folder", metavar="FOLDER", help="the new model folder")
    add(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="number format of the weights (default: float32, as released)",
    )
    parser.set_defaults(command=convert_command)


def add_push(commands) -> None:
    parser = commands.add_parser(
        "push",
        help="a model folder to the Hugging Face Hub",
        description=(
            "Put a model folder on the Hugging Face Hub, private unless told otherwise, and print "
            "its address. The token is the one of `hf auth login` or HF_TOKEN."
        ),
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="a model folder")
    add("repository", metavar="REPO", help="user/name on the Hub")
    add("--public", action="store_true", help="make a new repository public")
    add("--revision", metavar="BRANCH", help="push to this branch, made if needed")
    add("--pull-request", action="store_true", help="propose to an existing repository instead")
    add("--yes", action="store_true", help="replace the files of an existing repository unasked")
    parser.set_defaults(command=push_command)


def add_pull(commands) -> None:
    parser = commands.add_parser(
        "pull",
        help="a model of the Hugging Face Hub to a folder",
        description="Copy a model of the Hugging Face Hub into a new model folder.",
    )
    add = parser.add_argument
    add("repository", metavar="REPO", help="user/name on the Hub")
    add("folder", metavar="FOLDER", help="the new model folder")
    add("--revision", metavar="REVISION", help="a branch, a tag or a commit (default: main)")
    parser.set_defaults(command=pull_command)


def convert_command(options: argparse.Namespace) -> None:
    from gpt2.openai.convert import convert

    made = convert(options.source, options.folder, options.dtype)
    rounded = "" if options.dtype == "float32" else f", rounded to {options.dtype}"
    print(made.folder)
    print(
        f"{made.parameters:,} parameters, {made.bytes / 1e6:,.1f} MB; read back, every value is "
        f"the checkpoint's{rounded}\nsha256 of model.safetensors: {made.sha256}",
        file=sys.stderr,
    )


def push_command(options: argparse.Namespace) -> int:
    from huggingface_hub import get_token

    from gpt2.hub.transfer import RepositoryExists, push

    def run(overwrite: bool) -> str:
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
        address = run(options.yes)
    except RepositoryExists as error:
        if not _agrees(str(error)):
            print("Nothing was pushed.", file=sys.stderr)
            return DECLINED
        address = run(overwrite=True)
    print(address)
    return 0


def _agrees(fact: str) -> bool:
    """Ask on the terminal; without one, say which flag answers."""
    if not sys.stdin.isatty():
        raise UserError(f"{fact} Say --yes to replace its files, or choose another name.")
    print(f"{fact} Replace its files? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def pull_command(options: argparse.Namespace) -> None:
    from huggingface_hub import get_token

    from gpt2.hub.transfer import pull

    print(pull(options.repository, options.folder, get_token(), options.revision))
