"""The app as people start it, as a process of its own, with folders that are looked into.

For tests and benchmarks that count what a whole server keeps: memory, disk, descriptors, threads,
what it logged.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpt2.files import folder_bytes
from gpt2.system import resident_bytes
from tests.support.app_server import NOWHERE, wait_until

ROOT = Path(__file__).parents[2]
CANARY = "hf_CANARYcanaryCANARYcanaryCANARYcan"  # the token saved on this machine


@dataclass
class AppProcess:
    """A running server; everything that it keeps is below `folder`."""

    process: subprocess.Popen
    url: str
    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def temp(self) -> Path:
        return self.folder / "temp"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def errors(self, since: int = 0) -> list[str]:
        """The lines of the log from that character on that tell of a fault of the server."""
        lines = self.log[since:].splitlines()
        return [line for line in lines if not _is_fine(line)]

    def memory(self) -> int:
        """Resident bytes; 0 where the system does not say."""
        return resident_bytes(self.process.pid) or 0

    def temp_bytes(self) -> int:
        return folder_bytes(self.temp)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def health(self) -> dict:
        with urllib.request.urlopen(f"{self.url}/health", timeout=10) as answer:
            return json.load(answer)

    def is_alive(self) -> bool:
        try:
            return self.process.poll() is None and self.health()["status"] == "ok"
        except OSError:
            return False

    def end(self, how: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal; the seconds until the process has left."""
        begun = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(timeout=30)
        return time.monotonic() - begun


def _is_fine(line: str) -> bool:
    try:
        facts = json.loads(line)
        return facts["level"] in ("info", "debug", "warning") and "where" not in facts
    except (ValueError, LookupError, TypeError):
        return False


def start_app(folder: Path, model: str, *options: str, **environment: str) -> AppProcess:
    """Start the app over `folder`, without waiting for it."""
    options = ("--model", model, "--runs", str(folder / "runs"), *options)
    return start_program(ROOT / "app.py", folder, *options, **environment)


def start_program(program: Path, folder: Path, *options: str, **environment: str) -> AppProcess:
    """The same for an `app.py` anywhere, which keeps its runs where it likes."""
    for name in ("temp", "hub"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "hub" / "token").write_text(CANARY)
    tests_own = ("HF_", "TRANSFORMERS_")  # offline, among other things
    kept = {name: value for name, value in os.environ.items() if not name.startswith(tests_own)}
    own = {"TMPDIR": str(folder / "temp"), "HF_HOME": str(folder / "hub"), "HF_ENDPOINT": NOWHERE}
    port = free_port()
    with open(folder / "log", "a") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, str(program), "--log", "json", "--port", str(port)),
                *options,
            ],
            env=kept | {"HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"} | own | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    return AppProcess(process, f"http://127.0.0.1:{port}", folder)


@contextmanager
def running_app(
    folder: Path, model: str, *options: str, **environment: str
) -> Iterator[AppProcess]:
    """The app, once it answers; ended afterward, with what it started."""
    app = start_app(folder, model, *options, **environment)
    try:
        wait_until(lambda: app.is_alive() or app.process.poll() is not None, "the app", 60)
        assert app.is_alive(), app.log
        yield app
    finally:
        if app.process.poll() is None:
            app.end()
        kill_workers(app.runs)


def kill_workers(runs: Path) -> None:
    """End the processes that train the runs in a folder: they outlive their server."""
    for pid in workers_of(runs):
        os.kill(pid, signal.SIGKILL)


def workers_of(runs: Path) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"service.worker" in words and any(str(runs).encode() in word for word in words):
            found.append(int(place.name))
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
