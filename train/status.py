"""What is known about a run at a moment, as plain values: what a page shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from train.memorisation import Memorisation
from train.run_folder import Progress

# Derived from the worker's lock, heartbeat and files, never from what somebody pressed.
STATES = (
    "queued",  # waits for its turn
    "preparing",  # its process starts, loads the model
    "training",
    "evaluating",
    "sampling",
    "saving",
    "done",
    "stopped",  # by its owner, or by the server's time limit; its model is kept
    "failed",  # see `message`
    "interrupted",  # its process died; it can be resumed
)
ACTIVE = STATES[:6]
RUNNING = STATES[1:6]
ENDED = STATES[6:]


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
    """A run at a moment. Losses are nats a token. Plain values: it may be sent as JSON."""

    id: str
    state: str  # one of STATES
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
    memorisation: Memorisation | None = None  # of the result
    result_ready: bool = False  # whether `model_folder(run)` gives a model
    created: float = 0.0  # seconds since 1970
    heartbeat_age: float | None = None  # seconds, while its process lives
    expires: float = 0.0  # seconds since 1970, if nobody looks again
    log_tail: str | None = None  # of a failed or interrupted run, for its owner

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE
