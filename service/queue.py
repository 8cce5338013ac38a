"""Whose turn it is: tickets on disk, and the processes that train the runs whose turn came."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpt2.errors import UserError
from service import ipc
from service.limits import Limits
from train.checkpoint import DiskFull
from train.run_folder import RunFolder
from train.states import RunState

_ROOT = Path(__file__).parents[1]
_SECRETS = ("TOKEN", "SECRET", "PASSWORD", "KEY")  # what a worker has no use for


@dataclass
class Entry:
    """One run as the queue sees it."""

    id: str
    path: Path
    owner: str  # a digest
    client: str = ""  # the address that ordered it; "": not known, as after a restart
    ticket: int | None = None
    since: float = 0.0  # monotonic seconds: when its turn began
    process: subprocess.Popen | None = None  # started here; others are seen by their lock

    @property
    def is_running(self) -> bool:
        if self.process is not None and self.process.poll() is None:
            return True
        return ipc.lock_owner(self.path) is not None


class Queue:
    """First come, first served, but no visitor trains more than their share at a time, and a run
    that has had its turn makes way for one that waits.

    Every method is to be called with `guard` held."""

    def __init__(self, limits: Limits) -> None:
        self.guard = threading.RLock()
        self.entries: dict[str, Entry] = {}
        self._limits = limits
        self._running: set[str] = set()  # ids; those that were running when last looked at

    def add(self, entry: Entry) -> None:
        """A run that is on disk, perhaps waiting, perhaps trained by a process that outlived the
        last server."""
        entry.ticket = ipc.read(entry.path, ipc.Ticket).number
        if entry.ticket is None and ipc.exists(entry.path, ipc.Ticket):  # damaged: it has no turn
            with suppress(OSError):
                ipc.remove(entry.path, ipc.Ticket)
        self.entries[entry.id] = entry
        if ipc.lock_owner(entry.path) is not None:
            self._running.add(entry.id)
            entry.since = time.monotonic()

    def enqueue(self, entry: Entry, first: bool = False) -> None:
        """As the last, or as the `first`: what only has to save its model takes moments."""
        tickets = [other.ticket for other in self.waiting()]
        if first:
            entry.ticket = min([time.time_ns(), *(ticket - 1 for ticket in tickets)])
        else:
            entry.ticket = max([time.time_ns(), *(ticket + 1 for ticket in tickets)])
        ipc.write(entry.path, ipc.Ticket(entry.ticket))

    def withdraw(self, entry: Entry) -> bool:
        """Take a run out of the queue; False when it is not waiting (any more)."""
        if entry.id in self._running or entry.ticket is None:
            return False
        entry.ticket = None
        ipc.remove(entry.path, ipc.Ticket)
        return True

    def forget(self, entry: Entry) -> None:
        self.entries.pop(entry.id, None)
        self._running.discard(entry.id)

    def waiting(self) -> list[Entry]:
        """In the order of their turns."""
        found = [
            entry
            for entry in self.entries.values()
            if entry.ticket is not None and entry.id not in self._running
        ]
        return sorted(found, key=lambda entry: entry.ticket)

    def place(self, entry: Entry) -> tuple[int, float]:
        """Of a waiting run: its place, 1 = next, and the seconds until its turn, an estimate: what
        runs and what stands before it, over what runs at a time."""
        waiting = self.waiting()
        index = waiting.index(entry) if entry in waiting else len(waiting)
        before = (*self.running(), *waiting[:index])
        return index + 1, sum(map(_seconds_left, before)) / max(1, self._limits.running)

    def running(self) -> list[Entry]:
        return [self.entries[name] for name in self._running]

    def is_running(self, entry: Entry) -> bool:
        return entry.id in self._running

    def refuse_more(self, owner: str, client: str, coming: list[Entry]) -> None:
        """`UserError` when a visitor, an address, or this server, has enough runs already; `coming`
        are about to be queued."""
        limits, waiting = self._limits, [*self.waiting(), *coming]
        unended = [*waiting, *self.running()]
        own = sum(entry.owner == owner for entry in unended)
        if own >= limits.running_per_owner + limits.waiting_per_owner:
            raise UserError(
                f"You have {own} runs here that have not ended: {limits.running_per_owner} may "
                f"train and {limits.waiting_per_owner} may wait. Stop one, or wait for its end."
            )
        theirs = sum(entry.client == client != "" for entry in unended)
        if theirs >= limits.unended_per_client:
            raise UserError(
                f"{theirs} runs that were started from your address have not ended, and no more "
                "may be started from it. Wait for the end of one."
            )
        if len(waiting) >= limits.waiting:
            raise UserError(
                f"{len(waiting)} runs are waiting already, and no more can. Try again later."
            )

    def tick(self) -> None:
        """See which processes have ended, start what comes next."""
        for entry in self.running():
            if not entry.is_running:
                self._running.discard(entry.id)
                self._note_end(entry)
        self._ask_to_make_way()
        for entry in self.waiting():
            if len(self._running) >= self._limits.running:
                return
            if sum(e.owner == entry.owner for e in self.running()) < self._limits.running_per_owner:
                self._try_to_start(entry)

    def _ask_to_make_way(self) -> None:
        """The run that began first, as soon as its turn is over, while others wait."""
        if len(self._running) < self._limits.running:
            return
        longest = min(self.running(), key=lambda entry: entry.since, default=None)
        if longest is None:
            return
        wanted = any(entry.owner != longest.owner for entry in self.waiting())
        with suppress(OSError):
            if wanted and not ipc.exists(longest.path, ipc.Yield):
                ipc.write(longest.path, ipc.Yield(self._limits.turn_seconds))
            elif not wanted:
                ipc.remove(longest.path, ipc.Yield)

    def settle(self, entry: Entry) -> None:
        """Wait for the process of a run that has let go of it: it ends within moments."""
        if entry.process is not None:
            entry.process.wait()
        self.tick()

    def kill(self, entry: Entry) -> None:
        """End the process of a run at once, and wait until it is gone."""
        if entry.process is not None:
            entry.process.kill()
            entry.process.wait()
            entry.process = None
        deadline = time.monotonic() + 10
        while (pid := ipc.lock_owner(entry.path)) is not None and time.monotonic() < deadline:
            if pid == os.getpid():  # a slice
                raise UserError("This run is training now. Stop it first.")
            with suppress(ProcessLookupError):
                if pid:  # 0 while its process is about to write it
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        self._running.discard(entry.id)

    def _try_to_start(self, entry: Entry) -> None:
        """No room for a log, no more processes: the next tick tries again. A damaged folder: it
        would try forever."""
        try:
            self._start(entry)
        except (IsADirectoryError, NotADirectoryError, FileNotFoundError, PermissionError):
            self._give_up(entry)
        except OSError:
            pass

    def _start(self, entry: Entry) -> None:
        threads = str(self._limits.threads)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not any(secret in name.upper() for secret in _SECRETS)
        } | {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            # Spinning while they wait, the threads of two processes on the same cores slow each
            # other ten times.
            "OMP_WAIT_POLICY": "passive",
            "GOMP_SPINCOUNT": "0",
            "HF_HUB_OFFLINE": "1",
        }
        log_path = entry.path / ipc.LOG
        if log_path.exists() and not log_path.is_file():
            raise IsADirectoryError(log_path)
        with open(log_path, "ab") as log:
            entry.process = subprocess.Popen(
                [
                    sys.executable,
                    *("-m", "service.worker", str(entry.path.absolute())),
                    *("--device", self._limits.device),
                ],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it outlives the server
            )
        self._running.add(entry.id)
        entry.since = time.monotonic()

    def _note_end(self, entry: Entry) -> None:
        """A process takes its ticket away when it begins, and writes another if it made way. One
        that could not even begin would be started again and again."""
        entry.process, started = None, entry.ticket
        entry.ticket = ipc.read(entry.path, ipc.Ticket).number
        if ipc.exists(entry.path, ipc.Ticket) and entry.ticket in (None, started):
            self._give_up(entry)

    def _give_up(self, entry: Entry) -> None:
        entry.ticket = None
        with suppress(OSError, DiskFull):  # its folder may be damaged, and others must not wait
            ipc.remove(entry.path, ipc.Ticket)
            RunFolder(entry.path).set_state(RunState.FAILED, cause=_NOT_STARTED)


_NOT_STARTED = (
    "The training process could not start; the end of its log says why. Resume to try again."
)


def _seconds_left(entry: Entry) -> float:
    """By the plan of a run and the step that it has reached."""
    run = RunFolder(entry.path)
    try:
        steps = run.description().train.steps
    except UserError:
        return 0.0  # it will fail at once
    return ipc.read(entry.path, ipc.Order).seconds * max(0.05, 1 - run.state().step / max(1, steps))
