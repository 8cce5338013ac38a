"""The small files in a run folder through which a server and the run's process speak.

    order.json       who ordered it and within which limits; written once
    ticket.json      {"number"}: its turn in the queue, while it waits; its process takes it away
    stop.json        {"keep"}: the request to end
    lock             held by the process that trains for as long as it lives, its pid inside
    heartbeat.json   what that process is doing, at least every second
    worker.log       what it printed
    memorisation.json, exports/   made from the result

A lock of the operating system ends with its process, whatever happens to it, so "dead" is certain
and a reused pid cannot lie.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gpt2.errors import UserError
from gpt2.files import read_json, write_json
from gpt2.system import lock_file
from train.states import RunState

REQUEST, TICKET, STOP, LOCK = "order.json", "ticket.json", "stop.json", "lock"
STATE = "state.json"  # of `train.run_folder`
HEARTBEAT, LOG, MEMORIZATION = "heartbeat.json", "worker.log", "memorisation.json"
KEEPS = ("best", "latest")
_BEAT_SECONDS = 1.0
_LOCK_SECONDS = 5.0  # a reader holds the lock for moments only


def lock_owner(path: Path) -> int | None:
    """The pid of the process that holds the run at `path`, 0 before it is known; None if none."""
    try:
        with open(path / LOCK) as file:
            if not lock_file(file, shared=True):
                text = file.read(20)
                # Never a negative number: to kill that is to kill everything.
                return int(text) if text.isascii() and text.isdigit() else 0
    except FileNotFoundError:
        pass
    return None


@contextmanager
def run_lock(path: Path, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
    """Hold a lock in the folder `path`. `UserError` when another process has it."""
    with open(path / LOCK, "a+") as file:
        deadline = time.monotonic() + seconds
        while not lock_file(file):
            if time.monotonic() > deadline:
                raise UserError(f"Another process works in {path} now.")
            time.sleep(0.02)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class Heartbeat:
    """Says every second what its process is doing; also while a single step takes minutes."""

    def __init__(self, path: Path) -> None:
        self._file = path / HEARTBEAT
        self._record = {"phase": RunState.PREPARING, "pid": os.getpid(), "began": time.time()}
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Heartbeat:
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def phase(self, phase: RunState) -> None:
        if phase != self._record["phase"]:
            self.tell(phase=phase)

    def tell(self, **facts: Any) -> None:
        self._record |= facts
        self._write()

    def _run(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            self._write()

    def _write(self) -> None:
        with self._guard, suppress(OSError):  # a full disk must not end the training
            write_json(self._file, self._record | {"time": time.time()})


def read(path: Path, name: str) -> dict[str, Any]:
    """One of the files above; {} where it is not there or torn."""
    try:
        record = read_json(path / name)
    except UserError:
        return {}
    return record if type(record) is dict else {}


def write(path: Path, name: str, **record: Any) -> None:
    write_json(path / name, record)


def remove(path: Path, name: str) -> None:
    (path / name).unlink(missing_ok=True)


def log_tail(path: Path, characters: int = 2000) -> str | None:
    """The end of what the run's process printed."""
    try:
        with open(path / LOG, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - characters))
            return file.read().decode("utf-8", errors="replace").strip() or None
    except OSError:
        return None
