"""Runs that outlive the machine: whole copies in a folder that keeps them, a Space's bucket.

A bucket is no disk. Depending on how it is mounted a file cannot be appended to or opened twice, a
rename may be lost, what was closed appears up to half a minute later, and a crash before that takes
it along. So a run lives on the local disk, and a copy of it is one archive, written once under a
name of its own, and after it a small note of its size and checksum. The newest copy whose note is
right counts; a broken one counts for nothing. Two are kept of each run.

Copies are made in the background, whenever a run has a new checkpoint, a result, or has ended.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tarfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from gpt2.files import list_folder, new_folder
from gpt2.records import read_record
from service import ipc
from service.ids import is_id
from train.run_folder import RunFolder

LOOK_SECONDS = 5.0
_KEPT = 2
_NAME = re.compile(r"([0-9a-f]{32})-(\d{9})\.json")
_OF_A_PROCESS = {ipc.LOCK, ipc.RESERVE}
_log = logging.getLogger("mirror")


@dataclass(frozen=True)
class Note:
    """About an archive that is whole."""

    size: int  # bytes
    sha256: str


class Mirror:
    """Copies the runs in `runs` to `bucket`. `restore` before anything else uses `runs`."""

    def __init__(self, runs: Path, bucket: Path) -> None:
        self._runs, self._bucket = runs, bucket
        self._seen: dict[str, object] = {}
        self._number = 0  # of the newest copy, or try of one: no name is used twice
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mirror", daemon=True)

    def restore(self) -> list[str]:
        """Fetch the runs that are not here; their ids."""
        self._runs.mkdir(parents=True, exist_ok=True)
        found = []
        for run in sorted({name for name, _ in self._copies()}):
            if not (self._runs / run).exists() and self._fetch(run):
                found.append(run)
                self._seen[run] = self._signs(run)
        return found

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Copy what is new a last time, and end."""
        self._closed.set()
        self._thread.join()
        self.copy_new()

    def copy_new(self) -> None:
        """Copy each run that has changed since its last copy, and forget those that are gone."""
        here = {path.name for path in list_folder(self._runs) if is_id(path.name)}
        for run in here:
            signs = self._signs(run)
            if signs != self._seen.get(run) and self._copy(run):
                self._seen[run] = signs
        for run in self._seen.keys() - here:  # a run that could not be fetched is not gone
            self._remove(run, 0)
            del self._seen[run]

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            try:
                self.copy_new()
            except OSError as error:
                _log.warning("runs could not be copied: %s", error.strerror or error)

    def _signs(self, run: str) -> object:
        """What changes with a checkpoint, a result or an end, and not in between: a copy is the
        whole run, whose state.json is written every second."""
        folder = RunFolder(self._runs / run)
        with suppress(OSError):
            ordered = (folder.path / "config.json").stat().st_mtime_ns  # later, if it is extended
            record = folder.state()
            end = (record.state, record.step) if record.state.is_ended else None
            return ordered, folder.checkpoints.steps(), folder.has_result, end
        return None

    # Copies

    def _copies(self) -> Iterator[tuple[str, int]]:
        """The runs and numbers of all copies whose notes are there."""
        with suppress(OSError):
            for name in os.listdir(self._bucket):
                if found := _NAME.fullmatch(name):
                    yield found[1], int(found[2])

    def _numbers(self, run: str) -> list[int]:
        return sorted(number for name, number in self._copies() if name == run)

    def _place(self, run: str, number: int, kind: str) -> Path:
        return self._bucket / f"{run}-{number:09}.{kind}"

    def _copy(self, run: str) -> bool:
        """False if the run changed meanwhile or the bucket failed: then it is tried again."""
        self._number = number = max([*self._numbers(run), self._number]) + 1
        archive = self._place(run, number, "tar")
        try:
            with open(archive, "wb") as file:
                summed = _Summed(file)
                with tarfile.open(fileobj=summed, mode="w|") as tar:
                    for path in _files_of(self._runs / run):
                        tar.add(path, path.relative_to(self._runs / run), recursive=False)
                file.flush()
                os.fsync(file.fileno())
            note = Note(summed.size, summed.sha256.hexdigest())
            with open(self._place(run, number, "json"), "w", encoding="utf-8") as file:
                json.dump(asdict(note), file)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            _log.warning("a run could not be copied: %s", error.strerror or error)
            with suppress(OSError):
                archive.unlink()
            return False
        self._remove(run, _KEPT)
        return True

    def _remove(self, run: str, keep: int) -> None:
        numbers = self._numbers(run)
        for number in numbers[: len(numbers) - keep]:
            for kind in ("json", "tar"):  # a note without its archive would be a lie
                with suppress(OSError):
                    self._place(run, number, kind).unlink()

    def _fetch(self, run: str) -> bool:
        """From the newest copy that is whole."""
        for number in reversed(self._numbers(run)):
            try:
                self._unpack(run, number)
                return True
            except (OSError, ValueError, tarfile.TarError) as error:
                _log.warning("copy %d of a run is broken: %s", number, error)
        return False

    def _unpack(self, run: str, number: int) -> None:
        note = read_record(self._place(run, number, "json"), Note)
        archive = self._place(run, number, "tar")
        with new_folder(self._runs / run) as folder:
            with open(archive, "rb") as file:
                summed = _Summed(file)
                with tarfile.open(fileobj=summed, mode="r|") as tar:
                    tar.extractall(folder, filter="data")
                while summed.read(1 << 20):
                    pass
            if note != Note(summed.size, summed.sha256.hexdigest()):
                raise ValueError("its checksum is another")


class _Summed:
    """A file, and the size and checksum of all that was read or written."""

    def __init__(self, file) -> None:
        self._file, self.size, self.sha256 = file, 0, hashlib.sha256()

    def read(self, count: int) -> bytes:
        return self._count(self._file.read(count))

    def write(self, data: bytes) -> int:
        self._file.write(self._count(data))
        return len(data)

    def _count(self, data: bytes) -> bytes:
        self.size += len(data)
        self.sha256.update(data)
        return data


def _files_of(folder: Path) -> list[Path]:
    """Checkpoints first: what is written after them is then newer, as after a crash."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    kept = [path for path in files if path.name not in _OF_A_PROCESS]
    return sorted(kept, key=lambda path: (path.relative_to(folder).parts[0] != "checkpoints", path))
