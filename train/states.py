"""The states of a run, each declared once."""

from __future__ import annotations

from enum import Enum


class RunState(str, Enum):
    """Where a run is, and whether it is waiting, is running or has ended.

    On disk and over the network, it is stored as its value. A server derives it from the worker's
    lock, heartbeat and files, never from which button was pressed.
    """

    QUEUED = "queued", "waiting"  # in the queue
    PREPARING = "preparing", "running"  # its process is starting and loading the model
    TRAINING = "training", "running"
    EVALUATING = "evaluating", "running"
    SAMPLING = "sampling", "running"
    SAVING = "saving", "running"
    DONE = "done", "ended"
    STOPPED = "stopped", "ended"  # by its owner or a time limit; its model is kept
    FAILED = "failed", "ended"  # the cause says why
    INTERRUPTED = "interrupted", "ended"  # its process died; it can be resumed

    phase: str

    def __new__(cls, value: str, phase: str) -> RunState:
        state = str.__new__(cls, value)
        state._value_ = value
        state.phase = phase
        return state

    def __str__(self) -> str:
        return self.value

    @property
    def is_running(self) -> bool:
        return self.phase == "running"

    @property
    def is_ended(self) -> bool:
        return self.phase == "ended"

    @property
    def is_active(self) -> bool:
        return not self.is_ended
