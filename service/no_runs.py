"""In the place of a server's runs where it cannot keep any: the page goes on without them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from gpt2.errors import UserError
from gpt2.files import explain_os_error
from gpt2.system import NeedsPosix
from service.limits import Limits
from service.runs import Runs

_NO_FOLDER = (
    "Fine-tuning is off on this page: it has no folder to keep runs in. Whoever runs it can start "
    "it again with --runs and a folder that can be written."
)


class NoRuns:
    """Has the methods of `Runs`: nobody has a run, and none can be had, for one reason."""

    folder = None

    def __init__(self, reason: str) -> None:
        """`reason` is for visitors: a whole sentence without a path."""
        self.reason = reason

    def _refuse(self, *given: object, **named: object) -> NoReturn:
        raise UserError(self.reason)

    create = status = stop = resume = extend = slice = discard = path = _refuse
    model_folder = base_folder = zip_model = memorized_spans = _refuse

    def runs_of(self, owner: object) -> tuple[str, ...]:
        return ()

    def delete_owner(self, owner: object) -> int:
        return 0

    def counts(self) -> dict[str, int]:
        return {}

    def discard_all(self) -> None:
        """There is nothing."""

    def close(self, kill: bool = False) -> None:
        """There is nothing."""


def open_runs(
    named: Path | None, default: Path, limits: Limits, downloads: Path | None = None
) -> Runs | NoRuns:
    """The runs in the folder that somebody `named`, else in the `default` one, as `Runs` takes it.

    Where the default cannot be used, or the system cannot have runs, there are none, and a note on
    stderr says why. `UserError` when a named folder cannot be used, as its runs are wanted, and
    when another server uses the folder: that one can be ended.
    """
    try:
        return Runs(named or default, limits, downloads)
    except NeedsPosix as error:
        why, reason = str(error), str(error)
    except OSError as error:
        why, reason = f"{explain_os_error(error)} --runs names another.", _NO_FOLDER
        if named:
            raise UserError(f"--runs: {explain_os_error(error)}") from None
    print(f"note: the page starts without fine-tuning. {why}", file=sys.stderr)
    return NoRuns(reason)
