"""What is known about a run at a moment, as plain values: what a page shows."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from service import ipc
from train.memorization import Memorization
from train.run_folder import Progress, RunFolder
from train.states import RunState

_BROKEN = (RunState.FAILED, RunState.INTERRUPTED)  # ended against somebody's will
MAX_PROGRESS_POINTS = 400
_PACE_STEPS = 30


@dataclass(frozen=True)
class Sample:
    """What the model wrote at a step, at the run's fixed prompt and seed. Without the prompt."""

    step: int
    text: str


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint that `Runs.model_folder(run, step)` can turn into a model folder."""

    step: int
    validation_loss: float | None
    bytes: int
    is_best: bool


@dataclass(frozen=True)
class RunStatus:
    """A run at a moment. Losses are nats per token. Plain values: it may be sent as JSON."""

    id: str
    state: RunState
    model: str  # the base model's name, as ordered
    preset: str
    step: int
    steps: int
    place: int | None = None  # in the queue; 1 = next
    wait_seconds: float | None = None  # an estimate, while queued
    seconds_per_step: float | None = None  # median of the last steps of this stretch, training only
    seconds_left: float | None = None  # until the end; None while unknown or ended
    progress: tuple[Progress, ...] = ()  # the whole run, at most 400 points, the first at step 0
    samples: tuple[Sample, ...] = ()  # the first at step 0
    checkpoints: tuple[CheckpointInfo, ...] = ()  # ascending
    base_loss: float | None = None  # validation loss at step 0
    best_loss: float | None = None
    best_step: int | None = None
    validation_tokens: int = 0  # that each evaluation measures
    train_tokens: int = 0
    message: str | None = None  # of an end: what happened, what was done, what to do
    notes: tuple[str, ...] = ()  # what its owner should know about how it was set up
    config: dict[str, Any] | None = None  # the run's own frozen `TrainConfig`
    encoding: str | None = None  # of the text
    memorization: Memorization | None = None  # of the result
    result_ready: bool = False  # whether `model_folder(run)` gives a model
    created: float = 0.0  # seconds since 1970
    heartbeat_age: float | None = None  # seconds, while its process lives
    expires: float = 0.0  # seconds since 1970, if nobody looks again
    log_tail: str | None = None  # of a failed or interrupted run, for its owner


class StatusReader:
    """Reads a run's folder, again and again: of its logs only what is new."""

    def __init__(self, path: Path) -> None:
        self._run = RunFolder(path)
        self._path = path
        self._progress = _Log(path / "progress.jsonl", Progress)
        self._samples = _Log(path / "samples.jsonl", Sample)
        self._guard = threading.Lock()

    def read(self, run_id: str, state: RunState) -> RunStatus:
        """The status, in the given state; what the queue knows is left out."""
        with self._guard:
            progress, samples = list(self._progress.lines()), tuple(self._samples.lines())
        order, described = ipc.read(self._path, ipc.REQUEST), self._run.description()
        record = ipc.read(self._path, ipc.STATE)
        report = ipc.read(self._path / "tokens", "report.json")
        measured = [p for p in progress if p.validation_loss is not None]
        best = min(measured, key=lambda p: p.validation_loss) if measured else None
        steps = described["train"]["steps"]
        step = progress[-1].step if progress else record.get("step", 0)
        pace = self._pace(progress, described["train"]) if state.is_running else None
        left = (steps - step) * pace * order.get("overhead", 1.0) if pace else None
        heartbeat = ipc.read(self._path, ipc.HEARTBEAT)
        remembered = ipc.read(self._path, ipc.MEMORIZATION)
        return RunStatus(
            id=run_id,
            state=state,
            model=order.get("model", ""),
            preset=order.get("preset", ""),
            step=step,
            steps=steps,
            seconds_per_step=pace,
            seconds_left=left,
            progress=thin_progress(progress),
            samples=samples,
            checkpoints=self._checkpoints(measured, best),
            base_loss=measured[0].validation_loss if measured and not measured[0].step else None,
            best_loss=best.validation_loss if best else None,
            best_step=best.step if best else None,
            validation_tokens=min(
                order.get("validation_tokens", 0), report.get("validation_tokens", 0)
            ),
            train_tokens=report.get("train_tokens", 0),
            message=_message(state, record),
            notes=tuple(described["notes"]) + tuple(order.get("notes", ())),
            config=described["train"],
            encoding=order.get("encoding"),
            memorization=Memorization(**remembered) if remembered else None,
            result_ready=state.is_ended and self._run.has_result,
            created=order.get("created", 0.0),
            heartbeat_age=time.time() - heartbeat["time"]
            if state.is_running and heartbeat
            else None,
            log_tail=ipc.log_tail(self._path) if state in _BROKEN else None,
        )

    def _pace(self, progress: list[Progress], config: dict[str, Any]) -> float | None:
        """Seconds a step: the median of the last, of this stretch, without its first."""
        since = ipc.read(self._path, ipc.HEARTBEAT).get("since")
        speeds = [
            p.tokens_per_second
            for p in progress[-_PACE_STEPS:]
            if p.tokens_per_second and since is not None and p.step > since
        ]
        return config["batch_size"] * config["block_size"] / median(speeds) if speeds else None

    def _checkpoints(
        self, measured: list[Progress], best: Progress | None
    ) -> tuple[CheckpointInfo, ...]:
        losses = {p.step: p.validation_loss for p in measured}
        found = []
        for step in self._run.checkpoints.steps():
            try:
                folder = self._path / "checkpoints" / f"step-{step}"
                size = sum(path.stat().st_size for path in folder.iterdir())
            except OSError:  # pruned in this moment
                continue
            is_best = best is not None and step == best.step
            found.append(CheckpointInfo(step, losses.get(step), size, is_best))
        return tuple(found)


class _Log:
    """The lines of a JSON log that one process appends to, and sometimes replaces as a whole, each
    made a `kind` once."""

    def __init__(self, path: Path, kind: type) -> None:
        self._path, self._kind = path, kind
        self._file, self._offset = -1, 0
        self._found: list = []

    def lines(self) -> list:
        try:
            with open(self._path, "rb") as file:
                about = os.fstat(file.fileno())
                if about.st_ino != self._file or about.st_size < self._offset:
                    self._file, self._offset, self._found = about.st_ino, 0, []
                file.seek(self._offset)
                new = file.read()
        except OSError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            with suppress(ValueError):
                self._found.append(self._kind(**json.loads(line)))
        return self._found


def thin_progress(progress: list[Progress]) -> tuple[Progress, ...]:
    """At most MAX_PROGRESS_POINTS of them over the whole run: the first, the last, the best, what
    was said, and as many validations as steps."""
    if len(progress) <= MAX_PROGRESS_POINTS:
        return tuple(progress)
    measured = [i for i, p in enumerate(progress) if p.validation_loss is not None]
    told = [i for i, p in enumerate(progress) if p.message][-20:]
    kept = {0, len(progress) - 1, *told}
    if measured:
        kept.add(min(measured, key=lambda i: progress[i].validation_loss))
    kept |= set(_evenly(measured, MAX_PROGRESS_POINTS // 2 - 30))
    kept |= set(_evenly(list(range(len(progress))), MAX_PROGRESS_POINTS - len(kept)))
    return tuple(progress[i] for i in sorted(kept))


def _evenly(items: list[int], most: int) -> list[int]:
    if len(items) <= most:
        return items
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]


def _message(state: RunState, record: dict[str, Any]) -> str | None:
    if state is not RunState.INTERRUPTED:
        return record.get("cause") if state.is_ended else None
    if record.get("cause"):  # between two slices
        return record["cause"]
    return (
        f"Its process died unexpectedly around step {record.get('step', 0)}: the server "
        "restarted, or ran out of memory. Everything up to the last checkpoint is kept. Resume "
        "continues from there."
    )
