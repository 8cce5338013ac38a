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
from gpt2.folder import LIMITS, is_whole
from gpt2.model import ModelConfig
from gpt2.records import parse_record, read_record
from train.checkpoint import Checkpoints, raising_disk_full
from train.config import TrainConfig
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


@dataclass(frozen=True)
class Sample:
    """What the model wrote at a step, at the run's fixed prompt and seed. Without the prompt."""

    step: int
    text: str


@dataclass(frozen=True)
class StateRecord:
    """state.json; the defaults where it is damaged."""

    state: RunState = RunState.INTERRUPTED
    step: int = 0
    cause: str | None = None
    pid: int = 0
    time: float = 0.0  # seconds since 1970


@dataclass(frozen=True)
class Origin:
    """What config.json says beside shape and training."""

    base: str | None  # the model folder that the run began from
    model: str | None = None  # its name
    preset: str | None = None
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what its owner should know about how it was set up


@dataclass(frozen=True)
class RunDescription(Origin):
    """config.json: what a run was begun with."""

    shape: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


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
        if not os.path.isfile(run.path / "config.json"):
            raise UserError(f"{path} is not a run folder: it has no config.json.")
        return run

    @property
    def has_result(self) -> bool:
        """Whether there is a model to use, whole as far as its files tell at a glance."""
        return holds_model(self.model)

    def describe(self, description: RunDescription) -> None:
        """Write config.json: from then on the run can be opened."""
        with self._raising_disk_full():
            write_json(self.path / "config.json", asdict(description), durable=True)

    def description(self) -> RunDescription:
        """What `describe` wrote; settings that are newer than the run have their defaults.
        `UserError` if it cannot be what a run began with."""
        path = self.path / "config.json"
        written = read_json(path)
        try:
            return _parse_description(written)
        except (KeyError, TypeError, ValueError, UserError) as error:
            raise UserError(
                f"{path} does not describe a run ({error}): the file is damaged, or of another "
                "version of this program. Restore it from a copy, or begin a new run."
            ) from None

    def state(self) -> StateRecord:
        return read_record(self.path / "state.json", StateRecord)

    def set_state(self, state: RunState, step: int | None = None, cause: str | None = None) -> None:
        """Also the heartbeat: `time` and `pid` tell a reader whether the writer lives. Without a
        `step` the last one stays."""
        record = {
            "state": state,
            "step": self.state().step if step is None else step,
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
        lines = _read_lines(self.path / "progress.jsonl")
        return [found for line in lines if (found := parse_record(Progress, line))]

    def samples(self) -> list[Sample]:
        lines = _read_lines(self.path / "samples.jsonl")
        return [found for line in lines if (found := parse_record(Sample, line))]

    def forget_after(self, step: int) -> None:
        """Drop what was logged past a checkpoint that the run goes back to."""
        for name in ("progress.jsonl", "samples.jsonl"):
            path = self.path / name
            kept = [line for line in _read_lines(path) if _step_of(line) <= step]
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


def holds_model(folder: Path) -> bool:
    """Whether a run's folder of a result, or of an exported checkpoint, is whole."""
    try:
        return os.path.isfile(folder / "config.json") and is_whole(folder)
    except OSError:
        return False


def _parse_description(written: Any) -> RunDescription:
    """Raises what dataclasses and settings raise for a value that they cannot be."""
    shape, config = ModelConfig(**written["shape"]), TrainConfig(**written["train"])
    for name, most in LIMITS.items():
        if not 0 < getattr(shape, name) <= most:
            raise ValueError(f"{name} is {getattr(shape, name)}")
    origin = parse_record(Origin, written)
    if origin is None:
        raise ValueError("it names no base")
    return RunDescription(**asdict(origin), shape=shape, train=config)


def parse_line(line: str | bytes) -> dict[str, Any] | None:
    """The JSON object on a line of a log; None for one that a crash has torn."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if type(found) is dict else None


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not os.path.isfile(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if (found := parse_line(line)) is not None:
                yield found


def _step_of(line: dict[str, Any]) -> float:
    """A line without a step belongs to none and is dropped."""
    step = line.get("step")
    return step if type(step) is int else float("inf")
