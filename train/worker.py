"""The process that trains one run: python -m train.worker RUN."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from train.run_folder import Progress


def train_slice(run_path: Path, seconds: float) -> Iterator[Progress]:
    """Go on with a run for so many seconds, save, and leave; finish it if its end comes first.

    The worker is one endless slice. `UserError` when another process holds the run. While no slice
    holds it, the run's state is "interrupted" until a slice has finished it.
    """
    raise NotImplementedError
