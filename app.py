"""The web page: python app.py [--model NAME] [--host H] [--port P] [--runs DIR] [--mirror DIR]
[--device NAME] [--dtype FORMAT] [--log text|json]"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from gpt2.command_line import Parser, add_device_option, add_format_option, run_command
from service import zero_gpu
from ui import surroundings

zero_gpu.import_spaces()  # before PyTorch
if status := run_command(surroundings.prepare):  # before gradio is imported
    sys.exit(status)

import gpt2
from gpt2.device import choose_device
from gpt2.errors import UserError
from service.limits import Limits
from service.mirror import Mirror
from service.no_runs import open_runs
from ui.address import in_address, parse_host, parse_port, require_listening
from ui.front_door import trusted_hosts
from ui.health import health_route
from ui.logs import LOG_FORMATS, structured_log, tell
from ui.models import Models
from ui.page import build_page, launch_settings

_SWITCH_SECONDS = 0.0005


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog="python app.py", description="GPT-2 as a web page.")
    on_space = "SPACE_ID" in os.environ
    add = parser.add_argument
    add(
        "--model",
        metavar="NAME",
        default=os.environ.get("GPT2_MODEL") or None,
        help="a model folder, 124M ... 1558M, user/repo or storyteller [GPT2_MODEL]",
    )
    host = os.environ.get("GRADIO_SERVER_NAME") or ("0.0.0.0" if on_space else "127.0.0.1")
    add("--host", type=parse_host, default=host, help="address to listen on [%(default)s]")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="answer to this name too, where --host is this machine alone; may be repeated",
    )
    add(
        "--share",
        action="store_true",
        help="also at a public address, through gradio's tunnel, for 72 hours: for notebooks",
    )
    add("--port", type=_port, help="port to listen on [7860, or the next free one]")
    add(
        "--runs",
        type=Path,
        metavar="DIR",
        help=f"where fine-tuning runs are kept [{default_runs_folder()}]",
    )
    add(
        "--mirror",
        type=Path,
        metavar="DIR",
        default=default_mirror(),
        help="where whole copies of runs are kept, to be fetched back by a server that starts "
        "without them: a bucket's folder [on a Space /bucket, if it is mounted]",
    )
    add_device_option(parser)
    add_format_option(parser)
    forms = {"choices": LOG_FORMATS, "default": LOG_FORMATS[0]}
    add("--log", help="how events are written to stderr [%(default)s]", **forms)
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    try:
        return parse_port(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def default_runs_folder() -> Path:
    return Path(__file__).parent / "runs"


def default_mirror() -> Path | None:
    bucket = Path("/bucket")
    return bucket if "SPACE_ID" in os.environ and os.path.ismount(bucket) else None


def serve(options: argparse.Namespace) -> None:
    with structured_log(options.log):
        _serve(options)


def _serve(options: argparse.Namespace) -> None:
    # A request passes several threads; beside one that computes, each hop takes that long.
    sys.setswitchinterval(_SWITCH_SECONDS)
    limits, writes_on = _limits(options)
    require_listening(options.host, options.port)
    mirror = _restore(options)
    downloads = surroundings.downloads_folder()
    runs = open_runs(options.runs, default_runs_folder(), limits, downloads)
    models = Models(options.model, runs=runs, device=writes_on, dtype=options.dtype)
    start = models.start()
    page = build_page(models, start, runs, limits)
    health = health_route(page, runs, start.choice.title)
    hosts = trusted_hosts(options.host, options.allow_host, options.share)
    settings = launch_settings(hosts, [health], options.share)
    tell("started", version=gpt2.__version__, model=start.choice.title, **runs.counts())
    host = in_address(options.host)
    try:
        with surroundings.direct():
            page.launch(
                server_name=host, server_port=options.port, prevent_thread_lock=True, **settings
            )
    except (OSError, ValueError) as error:  # gradio says which ports it tried
        raise UserError(f"The page cannot listen at {options.host}: {error}") from None
    surroundings.keep_swept()
    if mirror:
        mirror.start()
    try:
        page.block_thread()
    finally:
        if mirror:
            mirror.close()


def _restore(options: argparse.Namespace) -> Mirror | None:
    """Fetch the runs back that a server before this one has copied."""
    if options.mirror is None:
        return None
    mirror = Mirror(options.runs or default_runs_folder(), options.mirror)
    tell("restored", runs=len(mirror.restore()))
    return mirror


def _limits(options: argparse.Namespace) -> tuple[Limits, str]:
    """The limits of the runs, and the device that writes in this process: never the GPU on ZeroGPU,
    where runs are trained in slices, inside the requests of their visitors."""
    lasting = "SPACE_ID" not in os.environ or options.mirror is not None
    if zero_gpu.is_zero_gpu():
        return Limits(device=options.device, lasting=lasting, running=0), "cpu"
    choose_device(options.device)
    return Limits(device=options.device, lasting=lasting), options.device


def main(arguments: list[str] | None = None) -> int:
    return run_command(lambda: serve(parse_arguments(arguments)))


if __name__ == "__main__":
    sys.exit(main())
