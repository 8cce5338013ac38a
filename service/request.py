"""What a visitor may ask of a server that trains for others: `RunOrder`, and its `Limits`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gpt2.errors import UserError
from gpt2.machine import core_count
from train.config import TrainConfig

PRESET_NAMES = ("taste", "good", "thorough")
SUFFIXES = (".txt", ".md", ".csv", ".jsonl")


@dataclass(frozen=True)
class Limits:
    """What one server gives away. The defaults suit a Space of 2 cores, 16 GB and 50 GB of disk."""

    running: int = 1  # runs at a time, over all visitors
    running_per_owner: int = 1
    waiting_per_owner: int = 1
    waiting: int = 40
    text_bytes: int = 20_000_000
    disk_bytes: int = 20_000_000_000  # all runs together, what they may still grow to included
    free_disk_bytes: int = 2_000_000_000  # always left free on the disk
    memory_share: float = 0.6  # of the machine's memory, for one run
    run_seconds: int = 3 * 3600  # of one stretch; then it stops and keeps what it has
    expire_seconds: int = 7 * 86_400  # after the last look or change
    download_seconds: int = 3600  # how long a zip, or an exported checkpoint, is kept
    # Of the worker: it is of lower priority and never spins, so generation hardly feels it
    # (benchmarks/while_training.py).
    threads: int = field(default_factory=core_count)

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
                raise UserError(f"{option.name} must be a number of at least 0, not {value!r}.")


# The fields of `TrainConfig` that a visitor may set, with the range of each number.
ADVANCED: dict[str, tuple[float, float] | None] = {
    "steps": (1, 100_000),
    "batch_size": (1, 256),
    "micro_batch_size": (1, 64),
    "block_size": (8, 1024),
    "learning_rate": (1e-7, 0.1),
    "final_learning_rate": (0.0, 0.1),
    "warmup_steps": (0, 10_000),
    "schedule": None,
    "optimizer": None,
    "weight_decay": (0.0, 1.0),
    "gradient_clip": (0.0, 100.0),
    "dropout": (0.0, 0.9),
    "validation_share": (0.0, 0.5),
    "evaluate_every": (0, 100_000),
    "sample_every": (0, 100_000),
    "sample_prompt": None,
    "sample_tokens": (1, 300),
    "patience": (0, 1000),
    "precision": None,
    "lora_rank": (0, 256),
    "lora_alpha": (0.0, 1024.0),
    "gradient_checkpointing": None,
    "seed": (0, 2**31 - 1),
}
MAX_PROMPT_CHARACTERS = 2000


@dataclass(frozen=True)
class RunOrder:
    """A new run as a visitor ordered it. Every value is checked; `UserError` names the first that
    cannot be used. Either `text` (pasted) or `file` (an upload, which is deleted as soon as it is
    tokenised) is given."""

    model: str  # what `resolve` takes; the server chose it, never the visitor
    text: str | None = field(default=None, repr=False)
    file: Path | None = None
    preset: str = "taste"  # one of PRESET_NAMES
    column: str | None = None  # the text column of .csv and .jsonl
    changes: tuple[tuple[str, Any], ...] = ()  # of `ADVANCED`: what the visitor set themselves
    name: str = ""  # what people call the model; `model` itself where it is left out

    def __post_init__(self) -> None:
        if type(self.model) is not str or not self.model or len(self.model) > 1000:
            raise UserError(f"model must be the name of a model, not {show(self.model)}.")
        if type(self.name) is not str or len(self.name) > 200:
            raise UserError(
                f"name must be a text of at most 200 characters, not {show(self.name)}."
            )
        if (self.text is None) == (self.file is None):
            raise UserError("Give a text: paste one, or upload one file.")
        if self.text is not None and type(self.text) is not str:
            raise UserError(f"text must be a text, not {show(self.text)}.")
        if self.file is not None and not isinstance(self.file, Path):
            raise UserError(f"file must be an uploaded file, not {show(self.file)}.")
        if type(self.preset) is not str or self.preset not in PRESET_NAMES:
            names = ", ".join(PRESET_NAMES)
            raise UserError(f"preset must be one of {names}, not {show(self.preset)}.")
        if self.column is not None and (type(self.column) is not str or len(self.column) > 200):
            raise UserError(f"column must be the name of a column, not {show(self.column)}.")
        self._check_changes()

    def _check_changes(self) -> None:
        if type(self.changes) is not tuple:
            raise UserError(
                f"changes must be pairs of a name and a value, not {show(self.changes)}."
            )
        kinds = {option.name: option for option in fields(TrainConfig)}
        seen: dict[str, Any] = {}
        for change in self.changes:
            if type(change) is not tuple or len(change) != 2:
                raise UserError(f"changes must be pairs of a name and a value, not {show(change)}.")
            name, value = change
            if type(name) is not str or name not in ADVANCED:
                raise UserError(f"There is no setting {show(name)}.")
            if name in seen:
                raise UserError(f"{name} is given twice.")
            seen[name] = parse_setting(name, value, kinds[name])
        object.__setattr__(self, "changes", tuple(seen.items()))


def parse_setting(name: str, value: Any, option: Any) -> Any:
    """`value` of the exact type and in the range of the setting; 40.0 passes as the number 40."""
    bounds, choices = ADVANCED[name], option.metadata["choices"]
    if option.type == "int":
        value = as_whole(value)
    if option.type == "float" and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value).__name__ != option.type:
        wanted = {"int": "a whole number", "float": "a number", "bool": "true or false"}
        raise UserError(f"{name} must be {wanted.get(option.type, 'a text')}, not {show(value)}.")
    if bounds and not bounds[0] <= value <= bounds[1]:
        low, high = bounds
        raise UserError(f"{name} must be from {low:g} to {high:g}, not {show(value)}.")
    if choices and value not in choices:
        raise UserError(f"{name} must be one of {', '.join(choices)}, not {show(value)}.")
    if option.type == "str" and len(value) > MAX_PROMPT_CHARACTERS:
        raise UserError(f"{name} must have at most {MAX_PROMPT_CHARACTERS} characters.")
    return value


def as_whole(value: object) -> object:
    """40.0 as the number 40, which is how pages and JSON send it; anything else as it is."""
    return int(value) if type(value) is float and value.is_integer() else value


def show(value: object) -> str:
    """A short picture of a value for a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python prints no numbers of more than 4300 digits
        return f"such a {type(value).__name__}"
    return text if len(text) <= 40 else text[:40] + "..."
