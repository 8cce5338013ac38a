"""What a run would cost, before it starts: steps, time, memory."""

from __future__ import annotations

from dataclasses import dataclass

from train.config import TrainConfig
from train.order import Limits, RunOrder


@dataclass(frozen=True)
class Estimate:
    seconds_per_step: float
    seconds: float  # of the whole run: training, evaluations, samples, saving
    memory_bytes: int  # at its peak, the process included
    disk_bytes: int
    steps: int
    note: str | None  # what the visitor should know: shorter blocks, a long wait, ...
    config: TrainConfig  # exactly what would run
    validation_tokens: int  # each evaluation measures at most so many


def estimate(order: RunOrder, limits: Limits = Limits(), tokens: int | None = None) -> Estimate:  # noqa: B008
    """The plan of an order. The first time for a model's shape takes a few seconds (a step is
    measured in a short process of its own), later times none.

    `tokens` of the text, where they are known from its card; they are counted otherwise.
    `UserError` when the run does not fit this machine's memory or when the text cannot be used.
    """
    raise NotImplementedError
