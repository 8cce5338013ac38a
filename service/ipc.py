"""The small files in a run folder through which a server and the run's process speak.

    order.json       who ordered it and within which limits; written once
    ticket.json      {"number"}: its turn in the queue, while it waits; its process takes it away
    stop.json        {"keep"}: the request to end
    yield.json       {"seconds"}: the request to make way for another run
    lock             held by the process that trains for as long as it lives, its pid inside
    heartbeat.json   what that process is doing, at least every second
    worker.log       what it printed
    reserve          nothing: deleted where the disk is full, to have room to say so
    measure.json     how it reads its validation text
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from gpt2.errors import UserError, without_paths
from gpt2.files import remove_path, write_json
from gpt2.records import read_record
from gpt2.system import lock_file
from train.memorization import Memorization
from train.states import RunState

LOCK, LOG = "lock", "worker.log"
RESERVE, RESERVED_BYTES = "reserve", 1 << 16
KEEPS = ("best", "latest")
_BEAT_SECONDS = 1.0
_LOCK_SECONDS = 5.0  # a reader holds the lock for moments only


@dataclass(frozen=True)
class Order:
    """Who ordered the run, and what was planned. Where it is damaged, nobody's run."""

    owner: str = ""  # a digest
    created: float = 0.0  # seconds since 1970
    model: str = ""
    preset: str = ""
    encoding: str | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0  # planned, for the whole run
    overhead: float = 1.0  # of that, over the time of the steps alone
    disk_bytes: int = 0  # at its largest
    validation_tokens: int | None = None  # that each evaluation measures; None: all
    run_seconds: float | None = None  # the limit of one stretch; None: none


@dataclass(frozen=True)
class Ticket:
    """Its turn in the queue, while it waits."""

    number: int | None = None
    used: float = 0.0  # seconds of its time limit that it has trained already


@dataclass(frozen=True)
class Yield:
    """The request to make way for another run, after so much training, and to wait for the next
    turn."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Stop:
    """The request to end, and the state to keep; None while there is none."""

    keep: str | None = None


@dataclass(frozen=True)
class Beat:
    """What the run's process is doing."""

    phase: RunState = RunState.PREPARING
    pid: int = 0
    began: float = 0.0
    since: int | None = None  # the step at which this stretch began
    time: float | None = None  # seconds since 1970; None: it has not begun


@dataclass(frozen=True)
class Measured:
    """How the run reads its validation text: a `gpt2.score.Measure` in words; "" before that."""

    words: str = ""


FILES = {
    Order: "order.json",
    Ticket: "ticket.json",
    Stop: "stop.json",
    Yield: "yield.json",
    Beat: "heartbeat.json",
    Measured: "measure.json",
    Memorization: "memorisation.json",
}
RunRecord = TypeVar("RunRecord", Order, Ticket, Stop, Yield, Beat, Measured, Memorization)


def lock_owner(path: Path) -> int | None:
    """The pid of the process that holds the run at `path`, 0 before it is known; None if none."""
    if not os.path.isfile(path / LOCK):
        return None
    try:
        with open(path / LOCK) as file:
            if not lock_file(file, shared=True):
                text = file.read(20)
                # Never a negative number: to kill that is to kill everything.
                return int(text) if text.isascii() and text.isdigit() else 0
    except OSError:  # not there, or nothing that a process could hold
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
        self._path = path
        self._beat = Beat(pid=os.getpid(), began=time.time())
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
        if phase != self._beat.phase:
            self.tell(phase=phase)

    def tell(self, **facts: Any) -> None:
        self._beat = replace(self._beat, **facts)
        self._write()

    def _run(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            self._write()

    def _write(self) -> None:
        with self._guard, suppress(OSError):  # a full disk must not end the training
            write(self._path, replace(self._beat, time=time.time()))


def read(path: Path, kind: type[RunRecord]) -> RunRecord | None:
    """One of the files above as far as it is there and not damaged; None where it has a field that
    cannot be left out."""
    return read_record(path / FILES[kind], kind)


def write(path: Path, record: RunRecord) -> None:
    write_json(path / FILES[type(record)], asdict(record))


def exists(path: Path, kind: type[RunRecord]) -> bool:
    return os.path.lexists(path / FILES[kind])


def remove(path: Path, kind: type[RunRecord]) -> None:
    """Also what a damaged disk left in its place."""
    remove_path(path / FILES[kind])


def log_tail(path: Path, characters: int = 2000) -> str | None:
    """The end of what the run's process printed, for its owner: without the server's folders."""
    if not os.path.isfile(path / LOG):
        return None
    try:
        with open(path / LOG, "rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - characters)
            file.seek(start)
            tail = file.read().decode("utf-8", errors="replace")
    except OSError:
        return None
    if start:  # half a line may hold half a path
        tail = tail.partition("\n")[2]
    return without_paths(tail).strip() or None
