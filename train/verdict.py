"""One plain sentence about what a run achieved."""

from __future__ import annotations

from train.status import RunStatus


def verdict(status: RunStatus) -> str:
    """What the run's validation says, at any moment of it; "" while nothing can be said yet."""
    raise NotImplementedError
