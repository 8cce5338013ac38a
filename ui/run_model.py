"""The models of runs, as choices in the Write tab: "run:ID" is a run's result, "run:ID@120" its
checkpoint at step 120. The id is the capability; a path is never a name."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpt2.errors import UserError
from service.runs import Runs
from service.status import RunStatus
from ui.finetune.run_html import pill
from ui.words import ago

_NAME = re.compile(r"run:([0-9a-f]{32})(?:@([0-9]{1,9}))?")


@dataclass(frozen=True)
class RunModel:
    run: str
    step: int | None = None  # None: the run's result

    @classmethod
    def parse(cls, name: object) -> RunModel | None:
        """None for anything that is not such a name."""
        found = _NAME.fullmatch(name) if type(name) is str else None
        return cls(found[1], int(found[2]) if found[2] else None) if found else None

    @property
    def name(self) -> str:
        return f"run:{self.run}" + (f"@{self.step}" if self.step is not None else "")

    def folder(self, runs: Runs) -> Path:
        return runs.model_folder(self.run, self.step)

    def title(self, status: RunStatus) -> str:
        step = status.step if self.step is None else self.step
        return f"{short_name(status.model)}, step {step:,}"


def models_of(runs: Runs, owner: str | None) -> list[tuple[RunModel, str]]:
    """The visitor's own results and their titles, newest first."""
    ready = [status for status in statuses_of(runs, owner) if status.result_ready]
    return [(RunModel(status.id), RunModel(status.id).title(status)) for status in ready]


def statuses_of(runs: Runs, owner: str | None) -> Iterator[RunStatus]:
    """The visitor's own runs, newest first."""
    for run_id in runs.runs_of(owner) if owner else ():
        with suppress(UserError):  # deleted or expired a moment ago
            yield runs.status(run_id)


def run_rows(runs: Runs, owner: str | None) -> list[tuple[str, str]]:
    """A visitor's runs as choices: "Storyteller, taste, step 60/60, done, 5 minutes ago"."""
    rows = []
    for status in statuses_of(runs, owner):
        words = [status.preset, f"step {status.step:,}/{status.steps:,}"]
        words += [pill(status.state).lower(), ago(time.time() - status.created)]
        rows.append((", ".join(words).capitalize(), status.id))
    return rows


def short_name(model: str) -> str:
    """The last part of a base model's name, so that no folder of the server is revealed."""
    return model.rstrip("/").rsplit("/", 1)[-1]
