"""What the page needs from the machine it runs on, set up before gradio is imported.

`prepare` is called first: gradio reads these variables when it is imported, and checks its
own address when it starts.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from gpt2.files import sweep_folder, temp_root

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_KEPT_SECONDS = 86_400.0  # what an earlier server left


def prepare() -> None:
    """Nothing about visitors leaves this machine, requests to this machine bypass any proxy, and
    temporary files are in a folder of our own."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    _skip_proxies()
    os.environ["GRADIO_TEMP_DIR"] = str(_temp_folder())


def _skip_proxies() -> None:
    for name in ("no_proxy", "NO_PROXY"):
        there = [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]
        missing = [host for host in _LOOPBACK if host not in there]
        os.environ[name] = ",".join([*there, *missing])
    for name in (*_PROXIES, *map(str.upper, _PROXIES)):
        if os.environ.get(name, "").lower().startswith("socks") and not _has_socks():
            del os.environ[name]
            print(
                f"note: {name} is a SOCKS proxy, which needs a library: pip install socksio. "
                "It is not used.",
                file=sys.stderr,
            )


def _has_socks() -> bool:
    return importlib.util.find_spec("socksio") is not None


def _temp_folder() -> Path:
    """Gradio's own /tmp/gradio belongs to whoever was the first to run a page."""
    folder = temp_root() / "page"
    folder.mkdir(mode=0o700, exist_ok=True)
    sweep_folder(folder, _KEPT_SECONDS)
    return folder
