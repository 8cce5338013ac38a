"""The disk of a server that trains for others: how much is taken, what is promised, what is old."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from gpt2.errors import UserError
from gpt2.files import folder_bytes, list_folder, remove_path, sweep_folder
from gpt2.system import lock_file
from service import ipc
from service.limits import Limits
from service.queue import Entry, Queue

DOWNLOADS = ".downloads"
SURE_SECONDS = 600.0  # between two looks at a run that seems to have expired
PENDING = ".new-"  # what is made, or deleted, in this moment; swept at the next start at the latest


class Housekeeping:
    """Refuses what finds no room, deletes what nobody looks at any more."""

    def __init__(self, folder: Path, downloads: Path, limits: Limits, queue: Queue) -> None:
        self._folder, self._limits, self._queue = folder, limits, queue
        self._downloads = downloads
        self._expired: dict[str, float] = {}  # ids, and when each was first seen to be so
        for leftover in list_folder(folder):
            if leftover.name.startswith(PENDING):
                with suppress(OSError):
                    remove_path(leftover)

    def require_room(self, needed: int, client: str = "") -> None:
        """`UserError` when `needed` more bytes, for this client, would leave too little room."""
        limits = self._limits
        with self._queue.guard:
            entries = list(self._queue.entries.values())
        claimed = [(entry.client, self._claimed(entry)) for entry in entries]
        used = sum(count for _, count in claimed) + folder_bytes(self._downloads)
        free = shutil.disk_usage(self._folder).free
        own = sum(count for whose, count in claimed if whose == client != "")
        if own + needed > limits.client_disk_bytes:
            raise UserError(
                f"The runs that were started from your address take {_size(own)}, and "
                f"{_size(needed)} more are too much. Discard some that you no longer need."
            )
        if used + needed > limits.disk_bytes or free - needed < limits.free_disk_bytes:
            raise UserError(
                f"The server has no room for {_size(needed)} more. Discard runs that you no "
                "longer need, or try again later: old ones are deleted in time."
            )

    def _claimed(self, entry: Entry) -> int:
        """What a run has on disk, or will have at its largest while it has not ended."""
        used = folder_bytes(entry.path)
        if entry.ticket is None and not self._queue.is_running(entry):
            return used
        return max(used, ipc.read(entry.path, ipc.Order).disk_bytes)

    def sweep(self, delete: Callable[[Entry], None]) -> None:
        """Delete expired runs, old zips and old exports."""
        with self._queue.guard:
            entries = list(self._queue.entries.values())
            ended = [e for e in entries if e.ticket is None and not self._queue.is_running(e)]
        for entry in ended:
            if self._is_surely_expired(entry):
                delete(entry)
        for folder in (self._downloads, *(entry.path / "exports" for entry in entries)):
            sweep_folder(folder, self._limits.download_seconds)

    def expires(self, entry: Entry) -> float:
        """Seconds since 1970, if it has ended and nothing changes it."""
        return _changed(entry.path) + self._limits.expire_seconds

    def _is_surely_expired(self, entry: Entry) -> bool:
        """By two looks some time apart: a clock may be wrong for a minute."""
        if time.time() < self.expires(entry):
            self._expired.pop(entry.id, None)
            return False
        first = self._expired.setdefault(entry.id, time.monotonic())
        return time.monotonic() - first >= SURE_SECONDS

    def delete(self, path: Path) -> None:
        """First under a name that is no run's: half a run is none."""
        gone = path.with_name(f"{PENDING}{path.name}")
        with suppress(OSError):
            path.rename(gone)
            remove_path(gone)


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


def _size(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{max(1, count // 1000)} kB"


def _changed(run: Path) -> float:
    """When the state of a run was last written. Where it is damaged, when its folder was."""
    for path in (run / "state.json", run):
        with suppress(OSError):
            return path.stat().st_mtime
    return time.time()
