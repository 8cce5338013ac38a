"""Many visitors' runs on one machine: ordered, queued, watched, kept, and forgotten in time."""

from __future__ import annotations

from pathlib import Path

from train.order import Limits, RunOrder
from train.status import RunStatus


def new_owner() -> str:
    """A random id of 128 bits, for a visitor's browser to keep."""
    import secrets

    return secrets.token_hex(16)


class Runs:
    """All runs of one server, each a folder under `folder` named by its id, 128 random bits in hex.

    The id is the capability: who has it may look, stop, resume, download and discard. Everything
    is on disk; a new `Runs` over the same folder goes on with it. Safe to use from any thread.
    Every method raises `UserError` for what is not a known id or cannot be done now.
    """

    def __init__(self, folder: Path, limits: Limits = Limits()) -> None:  # noqa: B008
        """`UserError` when another server uses `folder`."""
        raise NotImplementedError

    def create(self, order: RunOrder, owner: object) -> str:
        """Tokenise the order's text, delete the upload, queue the run; returns its id. Takes as
        long as tokenising: seconds for 20 MB."""
        raise NotImplementedError

    def status(self, run_id: object) -> RunStatus:
        """The run now. Cheap: it may be asked for every second."""
        raise NotImplementedError

    def runs_of(self, owner: object) -> tuple[str, ...]:
        """The ids of a visitor's runs, newest first; none for anything unknown."""
        raise NotImplementedError

    def stop(self, run_id: object, keep: object = "best") -> None:
        """Ask a run to end; its model is then its "best" or "latest" state. Returns at once: the
        state becomes "stopped" when the worker has saved. A queued run leaves the queue."""
        raise NotImplementedError

    def resume(self, run_id: object) -> None:
        """Queue a stopped, failed or interrupted run again; it goes on exactly where it was."""
        raise NotImplementedError

    def extend(self, run_id: object, steps: object) -> None:
        """Queue an ended run for `steps` more steps."""
        raise NotImplementedError

    def discard(self, run_id: object) -> None:
        """Stop the run and delete all of it."""
        raise NotImplementedError

    def delete_owner(self, owner: object) -> int:
        """Discard all runs of a visitor; returns how many."""
        raise NotImplementedError

    def model_folder(self, run_id: object, step: object = None) -> Path:
        """A model folder of the result, or of the checkpoint at `step`, made on demand."""
        raise NotImplementedError

    def base_folder(self, run_id: object) -> Path:
        """The model folder that the run began from."""
        raise NotImplementedError

    def zip_model(self, run_id: object, step: object = None) -> Path:
        """A zip of that folder in a random directory of its own; swept after an hour."""
        raise NotImplementedError

    def memorised_spans(self, run_id: object, sample: object) -> list[tuple[str, bool]]:
        """A text in pieces: (text, whether it stands word for word in the run's training text)."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop watching. Workers go on; a later `Runs` finds them."""
        raise NotImplementedError
