"""python -m gpt2 deploy: this program as a Space on the Hugging Face Hub."""

from __future__ import annotations

import argparse
import os
import re
import sys

from gpt2.command_line import Parser
from gpt2.errors import UserError

HELP = "this program as a Space on the Hugging Face Hub"
DESCRIPTION = """\
Put this program on the Hugging Face Hub as a Space, or bring the Space up to date, follow its
build, and print the page's address. The token is the one of `hf auth login` or HF_TOKEN; the Space
does not get it. Run it again after every change: only what differs is uploaded."""
_NAME = re.compile(r"[A-Za-z_]\w{0,100}")


def add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("space", metavar="SPACE", help="user/name on the Hub")
    add(
        "--hardware",
        metavar="NAME",
        help="zero-a10g, cpu-basic, t4-small, ... [zero-a10g, or what the Space has]",
    )
    add("--model", metavar="NAME", help="start with this model: 124M, user/repo, storyteller")
    add("--private", action="store_true", help="only you can see it")
    add(
        "--variable",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the Space, which all can read; may be repeated",
    )
    add(
        "--secret",
        action="append",
        default=[],
        metavar="NAME",
        help="a secret of the Space: its value is taken from this environment; may be repeated",
    )
    add(
        "--bucket",
        metavar="NAME",
        help="keep copies of runs in this bucket of the Hub: else a restart ends them",
    )
    add("--yes", action="store_true", help="replace another program in that Space")
    add("--dry-run", action="store_true", help="list what would be uploaded, and ask nobody")
    add(
        "--wait",
        type=_minutes,
        default=30.0,
        metavar="MINUTES",
        help="follow the build for at most so long; 0: don't [30]",
    )


def run(options: argparse.Namespace) -> int | None:
    from huggingface_hub import HfApi, get_token

    from gpt2.hub.space import SpaceExists, SpaceOrder, deploy
    from gpt2.hub.space_watch import wait_until_running

    if options.dry_run:
        return _show(options)
    order = SpaceOrder(
        options.space,
        options.hardware,
        options.model,
        options.private,
        _variables(options.variable),
        _secrets(options.secret),
        options.yes,
        options.bucket,
    )
    token = get_token()
    try:
        deployment = deploy(order, token, _tell)
    except SpaceExists as error:
        raise UserError(f"{error} Say --yes to replace it, or choose another name.") from None
    if not deployment.changes:
        _tell("no file has changed")
    if not options.wait:
        print(deployment.page)
        return None
    api = HfApi(token=token, endpoint=os.environ.get("HF_ENDPOINT"))
    address = wait_until_running(api, deployment, 60 * options.wait, _tell)
    _tell(f"{deployment.page} answers")
    print(address)
    return None


def _show(options: argparse.Namespace) -> None:
    from gpt2.hub.names import full_name, require_repository
    from gpt2.hub.space_files import space_files

    require_repository(full_name(options.space))
    files = space_files()
    for path, content in files.items():
        print(f"{len(content):>12,}  {path}")
    _tell(f"{len(files)} files, {sum(map(len, files.values())) / 1e6:.1f} MB; nothing was uploaded")


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes <= 24 * 60:
        raise argparse.ArgumentTypeError(f"minutes are a number from 0 to 1440, not {text!r}")
    return minutes


def _variables(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for text, (name, sign, _) in zip(given, pairs):
        if not sign or not _NAME.fullmatch(name):
            raise UserError(f"A variable is NAME=VALUE, not {text[:60]!r}.")
    return {name: value for name, _, value in pairs}


def _secrets(names: list[str]) -> dict[str, str]:
    """From the environment: what stands on a command line can be read by others."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise UserError(
                "A secret is given by its name alone; its value is the environment's. For example: "
                "TOKEN=... python -m gpt2 deploy ... --secret TOKEN"
            )
        if not os.environ.get(name):
            raise UserError(f"There is no {name} in the environment to be passed on as a secret.")
    return {name: os.environ[name] for name in names}
