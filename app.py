"""The web page: python app.py [--model NAME] [--host H] [--port P] [--runs DIR]"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Before gradio is imported: nothing about visitors leaves this machine.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from gpt2.errors import UserError
from service.limits import Limits
from service.runs import Runs
from ui.front_door import trusted_hosts
from ui.models import Models
from ui.page import build_page, launch_settings


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python app.py", description="GPT-2 as a web page.")
    on_space = "SPACE_ID" in os.environ
    add = parser.add_argument
    add("--model", metavar="NAME", help="a model folder, 124M ... 1558M, user/repo or storyteller")
    add("--host", default="0.0.0.0" if on_space else "127.0.0.1", help="address to listen on")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="answer to this name too, where --host is this machine alone; may be repeated",
    )
    add("--port", type=int, help="port to listen on (default: 7860, or the next free one)")
    add(
        "--runs",
        type=Path,
        metavar="DIR",
        default=runs_folder(),
        help="where fine-tuning runs are kept (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def runs_folder() -> Path:
    """On a Space the persistent volume, where one is mounted; else a folder beside this file."""
    volume = Path("/data")
    if "SPACE_ID" in os.environ and os.path.ismount(volume):
        return volume / "runs"
    return Path(__file__).parent / "runs"


def main(arguments: list[str] | None = None) -> int:
    options, limits = parse_arguments(arguments), Limits()
    try:
        runs = Runs(options.runs, limits)
        models = Models(options.model, runs=runs)
        start = models.start()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    page = build_page(models, start, runs, limits)
    settings = launch_settings(trusted_hosts(options.host, options.allow_host))
    page.launch(server_name=options.host, server_port=options.port, **settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
