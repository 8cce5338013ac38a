"""What is known about a run at a moment, as plain values: what a page shows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from gpt2.records import parse_record, read_record
from service import ipc
from train.config import TrainConfig
from train.memorization import Memorization
from train.run_folder import Progress, RunFolder, Sample, StateRecord, parse_line
from train.states import RunState

_BROKEN = (RunState.FAILED, RunState.INTERRUPTED)  # ended against somebody's will
MAX_PROGRESS_POINTS = 400
MAX_RUN_SAMPLES = 40
_KEPT_PROGRESS = 4000  # in memory
_PACE_STEPS = 30


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
    samples: tuple[Sample, ...] = ()  # at most 40, the first at step 0
    checkpoints: tuple[CheckpointInfo, ...] = ()  # ascending
    base_loss: float | None = None  # validation loss at step 0
    best_loss: float | None = None
    best_step: int | None = None
    validation_tokens: int = 0  # that each evaluation measures
    measure: str = ""  # how: "window 256, stride 256, float32"
    train_tokens: int = 0
    message: str | None = None  # of an end: what happened, what was done, what to do
    notes: tuple[str, ...] = ()  # what its owner should know about how it was set up
    config: dict[str, Any] | None = None  # the run's own frozen `TrainConfig`
    encoding: str | None = None  # of the text
    memorization: Memorization | None = None  # of the result
    result_ready: bool = False  # whether `model_folder(run)` gives a model
    created: float = 0.0  # seconds since 1970
    heartbeat_age: float | None = None  # seconds, while its process lives
    expires: float | None = None  # seconds since 1970, of a run that has ended
    log_tail: str | None = None  # of a failed or interrupted run, for its owner


_DAMAGED = "This run's files are damaged. All that is left is to discard it; other runs are well."


def damaged_status(run_id: str, order: ipc.Order) -> RunStatus:
    """Of a run that cannot be read."""
    named = {"model": order.model, "preset": order.preset, "created": order.created}
    return RunStatus(run_id, RunState.FAILED, step=0, steps=0, message=_DAMAGED, **named)


class StatusReader:
    """Reads a run's folder, again and again: of its logs only what is new."""

    def __init__(self, path: Path) -> None:
        self._run = RunFolder(path)
        self._path = path
        self._progress = _Log(path / "progress.jsonl", Progress, thin_progress, _KEPT_PROGRESS)
        self._samples = _Log(path / "samples.jsonl", Sample, thin_samples, 2 * MAX_RUN_SAMPLES)
        self._guard = threading.Lock()

    def read(self, run_id: str, state: RunState) -> RunStatus:
        """The status, in the given state; what the queue knows is left out."""
        with self._guard:
            progress, samples = list(self._progress.lines()), list(self._samples.lines())
        order, described = ipc.read(self._path, ipc.Order), self._run.description()
        config, record = described.train, self._run.state()
        counted = read_record(self._run.tokens / "report.json", TokenCounts)
        measured = [p for p in progress if p.validation_loss is not None]
        best = min(measured, key=lambda p: p.validation_loss) if measured else None
        step = progress[-1].step if progress else record.step
        beat = ipc.read(self._path, ipc.Beat) if state.is_running else ipc.Beat()
        pace = _pace(progress, config, beat.since)
        left = (config.steps - step) * pace * order.overhead if pace else None
        return RunStatus(
            id=run_id,
            state=state,
            model=order.model,
            preset=order.preset,
            step=step,
            steps=config.steps,
            seconds_per_step=pace,
            seconds_left=left,
            progress=thin_progress(progress),
            samples=thin_samples(samples, best.step if best else None),
            checkpoints=self._checkpoints(measured, best),
            base_loss=measured[0].validation_loss if measured and not measured[0].step else None,
            best_loss=best.validation_loss if best else None,
            best_step=best.step if best else None,
            validation_tokens=min(order.validation_tokens or 0, counted.validation_tokens),
            measure=ipc.read(self._path, ipc.Measured).words,
            train_tokens=counted.train_tokens,
            message=_message(state, record, step),
            notes=(*described.notes, *order.notes),
            config=asdict(config),
            encoding=order.encoding,
            memorization=ipc.read(self._path, Memorization),
            result_ready=state.is_ended and self._run.has_result,
            created=order.created,
            heartbeat_age=None if beat.time is None else time.time() - beat.time,
            log_tail=ipc.log_tail(self._path) if state in _BROKEN else None,
        )

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


@dataclass(frozen=True)
class TokenCounts:
    """Of the corpus's report."""

    train_tokens: int = 0
    validation_tokens: int = 0


def _pace(progress: list[Progress], config: TrainConfig, since: int | None) -> float | None:
    """Seconds a step: the median of the last, of the stretch that began at step `since`, without
    its first."""
    speeds = [
        p.tokens_per_second
        for p in progress[-_PACE_STEPS:]
        if p.tokens_per_second and since is not None and p.step > since
    ]
    return config.batch_size * config.block_size / median(speeds) if speeds else None


class _Log:
    """The lines of a JSON log that one process appends to, and sometimes replaces as a whole, each
    made a `kind` once. Of long ones `thin(lines, most=most)` is kept."""

    def __init__(self, path: Path, kind: type, thin: Callable[..., Sequence], most: int) -> None:
        self._path, self._kind, self._thin, self._most = path, kind, thin, most
        self._file, self._offset = -1, 0
        self._found: list = []

    def lines(self) -> list:
        if not os.path.isfile(self._path):
            return []
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
            if record := parse_record(self._kind, parse_line(line)):
                self._found.append(record)
                if len(self._found) > 2 * self._most:
                    self._found = list(self._thin(self._found, most=self._most))
        return self._found


def thin_progress(
    progress: list[Progress], most: int = MAX_PROGRESS_POINTS
) -> tuple[Progress, ...]:
    """At most so many of them over the whole run: the first, the last, the best, what was said, and
    as many validations as steps."""
    if len(progress) <= most:
        return tuple(progress)
    measured = [i for i, p in enumerate(progress) if p.validation_loss is not None]
    told = [i for i, p in enumerate(progress) if p.message][-20:]
    kept = {0, len(progress) - 1, *told}
    if measured:
        kept.add(min(measured, key=lambda i: progress[i].validation_loss))
    kept |= set(_evenly(measured, most // 2 - 30))
    kept |= set(_evenly(list(range(len(progress))), most - len(kept)))
    return tuple(progress[i] for i in sorted(kept))


def thin_samples(
    samples: list[Sample], best_step: int | None = None, most: int = MAX_RUN_SAMPLES
) -> tuple[Sample, ...]:
    """At most so many of them over the whole run: the first, the last, the one at the best step,
    and some between."""
    if len(samples) <= most:
        return tuple(samples)
    best = [index for index, sample in enumerate(samples) if sample.step == best_step]
    kept = {*best[-1:], *_evenly(list(range(len(samples))), most - 1)}
    return tuple(samples[index] for index in sorted(kept))


def _evenly(items: list[int], most: int) -> list[int]:
    if len(items) <= most:
        return items
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]


def _message(state: RunState, record: StateRecord, step: int) -> str | None:
    if state is not RunState.INTERRUPTED:
        return record.cause if state.is_ended else None
    if record.cause:  # between two slices
        return record.cause
    return (
        f"Its process died unexpectedly around step {step:,}: the server "
        "restarted, or ran out of memory. Everything up to the last checkpoint is kept. Resume "
        "continues from there."
    )
