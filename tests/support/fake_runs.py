"""Stand-in for `service.runs.Runs`: statuses written by hand, nothing is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpt2.errors import UserError
from service.request import RunRequest
from service.status import CheckpointInfo, RunStatus
from train.memorization import Memorization
from train.run_folder import Progress, Sample
from train.states import RunState

RUN = "0123456789abcdef" * 2
OWNER = "fedcba9876543210" * 2
TEXTS = {
    0: " and the princess said to the king, I will give thee my daughter if thou canst tell me "
    "what is in the wood. Then the boy went away and came to a great castle.",
    20: " and the wind was in the north. The keeper went up to the lamp and said, I have seen no "
    "ship today, and the sea is very great.",
    40: " wind west, clear. Trimmed the wick at eight. A ship went by to the north and I thought "
    "of the letter that came back from the sea.",
    60: " wind north-west, a whole gale since noon. Trimmed the wick at eight, at midnight, at "
    "four. The seal was upon the landing and would not be moved.",
}


@dataclass
class FakeRuns:
    """Knows the runs in `statuses`, by id, and records what was asked of it."""

    statuses: dict[str, RunStatus] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None  # of every model
    asked: list[tuple] = field(default_factory=list)

    def create(self, order: RunRequest, owner: str, client: str = "") -> str:
        self.asked.append(("create", order, owner))
        self.statuses[RUN] = RunStatus(
            RUN, RunState.QUEUED, order.model, order.preset, 0, 60, place=1
        )
        self.owners[RUN] = owner
        return RUN

    def status(self, run_id: object) -> RunStatus:
        if type(run_id) is not str or run_id not in self.statuses:
            raise UserError("There is no such run, or not anymore.")
        return self.statuses[run_id]

    def runs_of(self, owner: object) -> tuple[str, ...]:
        return tuple(run for run, whose in self.owners.items() if whose == owner)

    def stop(self, run_id: object, keep: object = "best") -> None:
        self.asked.append(("stop", self.status(run_id).id, keep))

    def resume(self, run_id: object) -> None:
        self.asked.append(("resume", self.status(run_id).id))

    def extend(self, run_id: object, steps: object) -> None:
        self.asked.append(("extend", self.status(run_id).id, steps))

    def discard(self, run_id: object) -> None:
        self.asked.append(("discard", self.status(run_id).id))
        del self.statuses[run_id]
        self.owners.pop(run_id, None)

    def delete_owner(self, owner: object) -> int:
        runs = self.runs_of(owner)
        for run in runs:
            self.discard(run)
        return len(runs)

    def model_folder(self, run_id: object, step: object = None) -> Path:
        self.status(run_id)
        return self.folder

    def base_folder(self, run_id: object) -> Path:
        return self.model_folder(run_id)

    def memorized_spans(self, run_id: object, sample: str) -> list[tuple[str, bool]]:
        found = " Trimmed the wick at eight, at midnight, at four."
        before, there, after = sample.partition(found)
        spans = [(before, False), (there, True), (after, False)]
        return [span for span in spans if span[0]]

    def close(self, kill: bool = False) -> None:
        pass


def make_status(step: int = 60, steps: int = 60, state: str = "done", **changes) -> RunStatus:
    """A run of the storyteller on a keeper's log, as far as `step`."""
    progress = tuple(
        Progress(
            at,
            None if at == 0 else 4.05 * math.exp(-at / 75) + 0.12 * math.sin(at * 2.3),
            3.1 + 1.1 * math.exp(-at / 22) if at % 10 == 0 else None,
            3e-4,
            1.0,
            4000.0,
        )
        for at in range(step + 1)
    )
    measured = [point for point in progress if point.validation_loss is not None]
    best = min(measured, key=lambda point: point.validation_loss)
    points = [at for at in (20, 40, 60) if at <= step]
    state = RunState(state)
    running = state.is_active
    status = RunStatus(
        id=RUN,
        state=state,
        model="storyteller",
        preset="taste",
        step=step,
        steps=steps,
        seconds_per_step=0.42 if running else None,
        seconds_left=0.42 * (steps - step) if running else None,
        progress=progress,
        samples=tuple(Sample(at, text) for at, text in TEXTS.items() if at <= step),
        checkpoints=tuple(
            CheckpointInfo(at, progress[at].validation_loss, 21_000_000, at == best.step)
            for at in points
        ),
        base_loss=4.2,
        best_loss=best.validation_loss,
        best_step=best.step,
        validation_tokens=96,
        measure="window 256, stride 256, float32",
        train_tokens=864,
        config={"sample_prompt": "First of April.", "seed": 0},
        memorization=Memorization("Trimmed the wick at eight, at midnight, at four.", 48, 0.14),
        result_ready=not running,
    )
    return replace(status, **changes)
