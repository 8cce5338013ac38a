"""The run folder: everything about a run, readable by anyone at any moment.

    config.json            what was asked for
    state.json             what is going on: state, step, cause of an end, heartbeat
    progress.jsonl         a `Progress` a line
    samples.jsonl          {"step", "text"} a line
    tokens/                the corpus
    checkpoints/step-N/    model.safetensors, optimizer.safetensors, trainer.json, manifest.json
    model/                 the result, a model folder

A checkpoint is written aside as a whole directory, synced to disk, described by a manifest of sizes
and sha256, and only then renamed to its name: after a crash it is there entirely or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from gpt2.errors import UserError
from gpt2.files import is_disk_full
from gpt2.tokenizer import read_json

_NO_ROOM_FOR_LOGS = "there is no room for the log of the run"
STATES = ("preparing", "training", "done", "stopped", "failed")


@dataclass(frozen=True)
class Progress:
    """One line of a run's log. Losses are nats a token; None where nothing was measured."""

    step: int  # steps done
    loss: float | None  # the mean over all tokens of the step, all micro-batches and ranks
    validation_loss: float | None
    learning_rate: float
    gradient_norm: float | None  # before clipping
    tokens_per_second: float | None  # of the step alone
    message: str | None = None  # what happened that the user should know


@dataclass(frozen=True)
class Checkpoint:
    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    trainer: dict[str, Any]  # plain values


class RunFolder:
    """Reads and writes one run. One process writes; any number may read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """A new run. `UserError` when there is something at `path` already."""
        run = cls(path)
        if run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
            raise UserError(
                f"{path} exists already. Add --resume to go on with it, or choose another --out."
            )
        (run.path / "checkpoints").mkdir(parents=True)
        run.set_state("preparing", 0)
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        run = cls(path)
        if not (run.path / "config.json").is_file():
            raise UserError(f"{path} is no run folder that was begun: it has no config.json.")
        return run

    @property
    def tokens(self) -> Path:
        return self.path / "tokens"

    @property
    def model(self) -> Path:
        return self.path / "model"

    def describe(self, description: dict[str, Any]) -> None:
        """Write config.json: from then on the run can be opened."""
        _replace(self.path / "config.json", _json(description))

    def description(self) -> dict[str, Any]:
        return read_json(self.path / "config.json")

    def state(self) -> dict[str, Any]:
        return read_json(self.path / "state.json")

    def set_state(self, state: str, step: int, cause: str | None = None) -> None:
        """Also the heartbeat: `time` and `pid` tell a reader whether the writer lives."""
        assert state in STATES
        record = {
            "state": state,
            "step": step,
            "cause": cause,
            "pid": os.getpid(),
            "time": time.time(),
        }
        _replace(self.path / "state.json", _json(record), durable=False)

    def add_progress(self, progress: Progress) -> None:
        self._append("progress.jsonl", asdict(progress))

    def add_sample(self, step: int, text: str) -> None:
        self._append("samples.jsonl", {"step": step, "text": text})

    def progress(self) -> list[Progress]:
        return [Progress(**line) for line in _lines(self.path / "progress.jsonl")]

    def samples(self) -> list[dict[str, Any]]:
        return list(_lines(self.path / "samples.jsonl"))

    def forget_after(self, step: int) -> None:
        """Drop what was logged behind a checkpoint that the run goes back to."""
        for name in ("progress.jsonl", "samples.jsonl"):
            path = self.path / name
            kept = [line for line in _lines(path) if line["step"] <= step]
            _replace(path, "".join(json.dumps(line) + "\n" for line in kept))

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint whole, or leave nothing. `DiskFull` says how much room it needs."""
        target = self._checkpoint(checkpoint.step)
        aside = target.with_name(f".tmp-{target.name}")
        with finding_room(self.path, _needs(checkpoint)):
            self._write(checkpoint, aside, target)

    @staticmethod
    def _write(checkpoint: Checkpoint, aside: Path, target: Path) -> None:
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir(parents=True)
            save_file(checkpoint.model, aside / "model.safetensors", metadata={"format": "pt"})
            save_file(checkpoint.optimizer, aside / "optimizer.safetensors")
            (aside / "trainer.json").write_text(_json(checkpoint.trainer), encoding="utf-8")
            manifest = {path.name: _fingerprint(path) for path in sorted(aside.iterdir())}
            (aside / "manifest.json").write_text(_json(manifest), encoding="utf-8")
            for path in aside.iterdir():
                _sync(path)
            _sync(aside)
            if target.exists():  # written before a fall back to an earlier step
                shutil.rmtree(target)
            os.rename(aside, target)
            _sync(target.parent)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise

    def steps(self) -> list[int]:
        """The steps of all checkpoints, whether they verify or not, ascending."""
        names = [path.name for path in (self.path / "checkpoints").glob("step-*")]
        return sorted(int(name[5:]) for name in names if name[5:].isdigit())

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint whose files are what its manifest says."""
        for aside in (self.path / "checkpoints").glob(".tmp-*"):
            shutil.rmtree(aside, ignore_errors=True)
        for step in reversed(self.steps()):
            if self.verify(step):
                return self.load(step)
        return None

    def verify(self, step: int) -> bool:
        folder = self._checkpoint(step)
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            return all(_fingerprint(folder / name) == entry for name, entry in manifest.items())
        except (OSError, ValueError, AttributeError):
            return False

    def load(self, step: int) -> Checkpoint:
        folder = self._checkpoint(step)
        model, optimizer = (
            load_file(folder / f"{name}.safetensors") for name in ("model", "optimizer")
        )
        return Checkpoint(step, model, optimizer, read_json(folder / "trainer.json"))

    def prune(self, keep: Iterable[int]) -> None:
        for step in set(self.steps()) - set(keep):
            shutil.rmtree(self._checkpoint(step), ignore_errors=True)

    def _checkpoint(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step}"

    def _append(self, name: str, record: dict[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False) + "\n"
        with (
            finding_room(self.path, _NO_ROOM_FOR_LOGS),
            open(self.path / name, "a", encoding="utf-8") as file,
        ):
            file.write(line)


class DiskFull(Exception):
    """What was to be written found no room; the last checkpoint is untouched."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"The disk is full: {what} in {path}. The last checkpoint is whole; make room and "
            "resume the run."
        )


@contextmanager
def finding_room(path: Path, what: str) -> Iterator[None]:
    """A full disk becomes `DiskFull`, which says `what` needed the room."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise DiskFull(path, what) from None
        raise


def _needs(checkpoint: Checkpoint) -> str:
    tensors = [*checkpoint.model.values(), *checkpoint.optimizer.values()]
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return f"a checkpoint needs about {max(1, round(needed / 1e6)):,} MB"


def _fingerprint(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, text: str, durable: bool = True) -> None:
    aside = path.with_name(f".tmp-{path.name}")
    with finding_room(path.parent, _NO_ROOM_FOR_LOGS):
        aside.write_text(text, encoding="utf-8")
        if durable:
            _sync(aside)
        os.replace(aside, path)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines of a log; a last line torn by a crash is left out."""
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
