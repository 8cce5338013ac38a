"""Whether eight bits are good enough for a model: measured once, remembered in the user's cache.

Measured is the mean loss on a page of plain English, in float32 and in eight bits. Rounding costs a
trained GPT-2 about a thousandth of it; models whose activations have outliers may lose more.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from gpt2.errors import UserError
from gpt2.files import cache_folder, write_json
from gpt2.folder import weight_files
from gpt2.model import GPT2
from gpt2.records import read_record
from gpt2.score import Measure, mean_loss
from gpt2.tokenizer import Tokenizer

MOST_LOST = 0.005  # of the loss in float32
_TEXT = Path(__file__).with_name("quality_text.txt")


@dataclass(frozen=True)
class Verdict:
    """The losses of a model, nats per token, in both formats."""

    float32: float
    int8: float

    @property
    def is_good(self) -> bool:
        return self.int8 <= self.float32 * (1 + MOST_LOST)


def gate_loss(model: GPT2, tokenizer: Tokenizer) -> float:
    """The mean loss on the page, on as much of it as the window takes; 0 where that is nothing."""
    ids = tokenizer.encode(_TEXT.read_text(encoding="utf-8"))[: model.config.n_positions + 1]
    window = max(1, min(len(ids) - 1, model.config.n_positions))
    loss = mean_loss(model, np.array(ids, dtype=np.int64), Measure(window, window, "float32"))
    return loss or 0.0


def remembered(folder: Path) -> Verdict | None:
    """What was measured for these very files before."""
    with suppress(UserError, OSError):
        return read_record(_place(folder), Verdict)
    return None


def remember(folder: Path, verdict: Verdict) -> None:
    """A user without a home, or with a full one, measures again the next time."""
    with suppress(UserError, OSError):
        place = _place(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, asdict(verdict))


def _place(folder: Path) -> Path:
    """By the sizes and times of the files: hashing them would take longer than the measuring."""
    seen = hashlib.sha256(torch.__version__.encode())
    for path in [folder / "config.json", *weight_files(folder)]:
        about = path.stat()
        seen.update(f"{path.resolve()} {about.st_size} {about.st_mtime_ns}\n".encode())
    return cache_folder() / "int8" / f"{seen.hexdigest()[:32]}.json"
