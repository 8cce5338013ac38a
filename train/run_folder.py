"""The run folder: everything about a run, readable by anyone at any moment.

config.json            what was asked for
state.json             what is happening: state, step, cause of an end, heartbeat
progress.jsonl         a `Progress` a line
samples.jsonl          {"step", "text"} a line
tokens/                the corpus
checkpoints/step-N/    model.safetensors, optimizer.safetensors, trainer.json, manifest.json
model/                 the result, a model folder
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpt2.errors import UserError
from gpt2.files import read_json, write_json, write_text
from train.checkpoint import Checkpoints, raising_disk_full
from train.states import RunState

_NO_ROOM_FOR_LOGS = "there is no room for the log of the run"


@dataclass(frozen=True)
class Progress:
    """One line of a run's log. Losses are nats per token; None where nothing was measured."""

    step: int  # steps done
    loss: float | None  # the mean over all tokens of the step, all micro-batches and ranks
    validation_loss: float | None
    learning_rate: float
    gradient_norm: float | None  # before clipping
    tokens_per_second: float | None  # of the step alone
    message: str | None = None  # what happened that the user should know
    # What the model wrote then. It is not on this line of the log, but in samples.jsonl.
    sample: str | None = field(default=None, compare=False)


class RunFolder:
    """Reads and writes one run. One process writes; any number may read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.tokens = self.path / "tokens"
        self.model = self.path / "model"
        self.checkpoints = Checkpoints(self.path / "checkpoints")

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """A new run. `UserError` when there is something at `path` already."""
        run = cls(path)
        if run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
            raise UserError(
                f"{path} exists already. Add --resume to continue it, or choose another --out."
            )
        run.checkpoints.path.mkdir(parents=True)
        run.set_state(RunState.PREPARING, 0)
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        run = cls(path)
        if not (run.path / "config.json").is_file():
            raise UserError(f"{path} is not a run folder: it has no config.json.")
        return run

    @property
    def has_result(self) -> bool:
        return (self.model / "model.safetensors").exists()

    def describe(self, description: dict[str, Any]) -> None:
        """Write config.json: from then on the run can be opened."""
        with self._raising_disk_full():
            write_json(self.path / "config.json", description, durable=True)

    def description(self) -> dict[str, Any]:
        return read_json(self.path / "config.json")

    def state(self) -> dict[str, Any]:
        return read_json(self.path / "state.json")

    def set_state(self, state: RunState, step: int | None = None, cause: str | None = None) -> None:
        """Also the heartbeat: `time` and `pid` tell a reader whether the writer lives. Without a
        `step` the last one stays."""
        record = {
            "state": state,
            "step": self.state()["step"] if step is None else step,
            "cause": cause,
            "pid": os.getpid(),
            "time": time.time(),
        }
        with self._raising_disk_full():
            write_json(self.path / "state.json", record)

    def add_progress(self, progress: Progress) -> None:
        record = asdict(progress)
        if (sample := record.pop("sample")) is not None:
            self.add_sample(progress.step, sample)
        self._append("progress.jsonl", record)

    def add_sample(self, step: int, text: str) -> None:
        self._append("samples.jsonl", {"step": step, "text": text})

    def progress(self) -> list[Progress]:
        return [Progress(**line) for line in _read_lines(self.path / "progress.jsonl")]

    def samples(self) -> list[dict[str, Any]]:
        return list(_read_lines(self.path / "samples.jsonl"))

    def forget_after(self, step: int) -> None:
        """Drop what was logged past a checkpoint that the run goes back to."""
        for name in ("progress.jsonl", "samples.jsonl"):
            path = self.path / name
            kept = [line for line in _read_lines(path) if line["step"] <= step]
            with self._raising_disk_full():
                write_text(path, "".join(json.dumps(line) + "\n" for line in kept), durable=True)

    def _append(self, name: str, record: dict[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False) + "\n"
        with (
            self._raising_disk_full(),
            open(self.path / name, "a", encoding="utf-8") as file,
        ):
            file.write(line)

    def _raising_disk_full(self):
        return raising_disk_full(self.path, _NO_ROOM_FOR_LOGS)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines of a log; a last line torn by a crash is left out."""
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue
