"""The models of runs, as choices of the Write tab: "run:ID" is a run's result, "run:ID@120" its
checkpoint at step 120. The id is the capability; a path is never a name."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from gpt2.errors import UserError
from service.runs import Runs
from service.status import RunStatus
from ui.finetune.run_html import pill
from ui.words import ago

_NAME = re.compile(r"run:([0-9a-f]{32})(?:@(\d{1,9}))?")


@dataclass(frozen=True)
class RunModel:
    run: str
    step: int | None = None  # None: the run's result

    @classmethod
    def parse(cls, name: object) -> RunModel | None:
        """None for what is not such a name."""
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
    found = []
    for run_id in runs.runs_of(owner) if owner else ():
        try:
            status = runs.status(run_id)
        except UserError:  # deleted a moment ago
            continue
        if status.result_ready:
            model = RunModel(run_id)
            found.append((model, model.title(status)))
    return found


def run_rows(runs: Runs, owner: str | None) -> list[tuple[str, str]]:
    """A visitor's runs as choices: "Storyteller, taste, step 60/60, done, 5 minutes ago"."""
    rows = []
    for run in runs.runs_of(owner) if owner else ():
        try:
            status = runs.status(run)
        except UserError:  # expired a moment ago
            continue
        words = [status.preset, f"step {status.step:,}/{status.steps:,}"]
        words += [pill(status.state).lower(), ago(time.time() - status.created)]
        rows.append((", ".join(words).capitalize(), run))
    return rows


def short_name(model: str) -> str:
    """Of a base model: the last part, so that no folder of the server is told."""
    return model.rstrip("/").rsplit("/", 1)[-1]
