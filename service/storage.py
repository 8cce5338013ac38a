"""The disk of a server that trains for others: how much is taken, what is promised, what is old."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from gpt2.errors import UserError
from gpt2.files import folder_bytes, sweep_folder
from gpt2.system import lock_file
from service import ipc
from service.limits import Limits
from service.queue import Entry, Queue

DOWNLOADS = ".downloads"
PENDING = ".new-"  # what is made, or deleted, in this moment; swept at the next start at the latest


class Housekeeping:
    """Refuses what finds no room, deletes what nobody looks at any more."""

    def __init__(self, folder: Path, limits: Limits, queue: Queue) -> None:
        self._folder, self._limits, self._queue = folder, limits, queue
        for leftover in folder.glob(f"{PENDING}*"):
            _remove(leftover)

    def require_room(self, needed: int) -> None:
        """`UserError` when `needed` more bytes would leave too little room."""
        limits = self._limits
        with self._queue.guard:
            entries = list(self._queue.entries.values())
        used = sum(map(self._claimed, entries)) + folder_bytes(self._folder / DOWNLOADS)
        free = shutil.disk_usage(self._folder).free
        if used + needed > limits.disk_bytes or free - needed < limits.free_disk_bytes:
            raise UserError(
                f"The server has no room for {needed / 1e6:,.0f} MB more. Discard runs that you no "
                "longer need, or try again later: old ones are deleted in time."
            )

    def _claimed(self, entry: Entry) -> int:
        """What a run has on disk, or will have at its largest while it has not ended."""
        used = folder_bytes(entry.path)
        if entry.ticket is None and not self._queue.is_running(entry):
            return used
        return max(used, ipc.read(entry.path, ipc.REQUEST).get("disk_bytes", 0))

    def sweep(self, delete: Callable[[Entry], None]) -> None:
        """Delete expired runs, old zips and old exports."""
        now, limits = time.time(), self._limits
        with self._queue.guard:
            entries = list(self._queue.entries.values())
            ended = [e for e in entries if e.ticket is None and not self._queue.is_running(e)]
        for entry in ended:
            changed = _changed(entry.path / "seen", entry.path / "state.json")
            if now - changed > limits.expire_seconds:
                delete(entry)
        for folder in (self._folder / DOWNLOADS, *(entry.path / "exports" for entry in entries)):
            sweep_folder(folder, limits.download_seconds)

    def delete(self, path: Path) -> None:
        """First under a name that is no run's: half a run is none."""
        gone = path.with_name(f"{PENDING}{path.name}")
        with suppress(OSError):
            path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def claim(folder: Path) -> IO[str]:
    """A lock for as long as the file that is returned stays open. `UserError` if another server
    has it: two would start the same runs."""
    file = open(folder / ".server", "w")  # noqa: SIM115 - closed with the server
    try:
        if not lock_file(file):
            raise UserError(f"Another server uses {folder}. End it or choose another folder.")
    except UserError:
        file.close()
        raise
    return file


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _changed(*paths: Path) -> float:
    """When any of `paths` was changed last; now, where none is there."""
    times = []
    for path in paths:
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times, default=time.time())
