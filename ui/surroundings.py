"""What the page needs from the machine it runs on, set up before gradio is imported.

`prepare` is called first: gradio reads the environment when it is imported.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpt2.errors import UserError
from gpt2.temporary import Temporary, sweep_temp, temp_part
from ui.address import parse_port

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXIES = tuple(
    spelled
    for name in ("http_proxy", "https_proxy", "all_proxy")
    for spelled in (name, name.upper())
)
_SWEEP_SECONDS = 60.0


def prepare() -> None:
    """Nothing about visitors leaves this machine, requests to this machine bypass any proxy, and
    temporary files are in a folder of our own. `UserError` for what gradio could not start with."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    _bypass_proxies()
    # Gradio's own /tmp/gradio belongs to whoever was the first to run a page.
    os.environ["GRADIO_TEMP_DIR"] = str(temp_part(Temporary.PAGE))
    sweep_temp()
    if port := os.environ.get("GRADIO_SERVER_PORT"):
        try:
            parse_port(port)
        except ValueError as error:
            raise UserError(f"GRADIO_SERVER_PORT: {error}.") from None
    _import_gradio()


def _import_gradio() -> None:
    """Without the names in the environment that it stumbles over: it looks for free ports at
    GRADIO_SERVER_NAME as if that were IPv4, and makes clients for a proxy that it does not use."""
    try:
        with _without("GRADIO_SERVER_NAME", *_PROXIES):
            import gradio.http_server  # noqa: F401 - the part that reads them, else much later
    except ValueError as error:
        raise UserError(f"A variable GRADIO_... in the environment is no use: {error}.") from None


def downloads_folder() -> Path:
    """For zips of models: gradio gives out what is in its own folder, and nothing else."""
    from gradio.utils import get_upload_folder  # after `prepare`

    return Path(get_upload_folder()) / "downloads"


@contextmanager
def direct() -> Iterator[None]:
    """Requests in this block, gradio's to itself, go through no proxy, whatever its kind. What
    goes out to others, later, does."""
    with _without(*_PROXIES):
        yield


def keep_swept(every: float = _SWEEP_SECONDS) -> None:
    """Sweep the temporary folder for as long as this process lives."""

    def sweep() -> None:
        while not ended.wait(every):
            with suppress(OSError):  # a full disk, or none: the next time
                sweep_temp()

    ended = threading.Event()
    threading.Thread(target=sweep, name="sweep", daemon=True).start()


@contextmanager
def _without(*names: str) -> Iterator[None]:
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _bypass_proxies() -> None:
    for name in ("no_proxy", "NO_PROXY"):
        there = [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]
        missing = [host for host in _LOOPBACK if host not in there]
        os.environ[name] = ",".join([*there, *missing])
