"""The one folder below the system's temporary folder in which this program keeps anything.

    page/     gradio's: what arrives and is fetched, zips of models
    uploads/  visitors' texts that wait for their run
    push/     a model with its card, while it is being published
    scratch/  of benchmarks

Everybody who needs a temporary file gets it from here, so that one sweep finds all of it.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

from gpt2.files import folder_bytes, sweep_folder
from gpt2.system import is_own_folder, user_name

_HOUR, _DAY = 3600.0, 86_400.0


class Temporary(Enum):
    """The parts of the folder, and the seconds after which what lies in one is left over."""

    PAGE = "page", _HOUR
    UPLOADS = "uploads", _HOUR
    PUSH = "push", _DAY  # gigabytes over a slow line
    SCRATCH = "scratch", 7 * _DAY

    def __init__(self, folder: str, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds


def temp_root() -> Path:
    """The whole folder, mode 700. It is the user's own: where that name belongs to somebody else,
    it is another one. OSError if there is no place for temporary files at all."""
    place = Path(tempfile.gettempdir())
    named = place / f"gpt2-from-scratch-{user_name()}"
    if not named.is_symlink():
        with suppress(OSError):  # a file, or somebody else's
            named.mkdir(mode=0o700, exist_ok=True)
        if is_own_folder(named):
            return named
    # One that an earlier call had to make, or the next process would leave one more.
    others = sorted(path for path in place.glob(f"{named.name}-*") if is_own_folder(path))
    return others[0] if others else Path(tempfile.mkdtemp(prefix=f"{named.name}-"))


def temp_part(part: Temporary) -> Path:
    """The folder of a part."""
    folder = temp_root() / part.folder
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def new_temp_folder(part: Temporary) -> Path:
    """An empty folder that nobody else can enter, or guess: 128 random bits are its name."""
    folder = temp_part(part) / secrets.token_hex(16)
    folder.mkdir(mode=0o700)
    return folder


@contextmanager
def temp_folder(part: Temporary = Temporary.SCRATCH) -> Iterator[Path]:
    """Such a folder for as long as the block takes."""
    folder = new_temp_folder(part)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def temp_bytes() -> int:
    """What lies in the whole folder."""
    return folder_bytes(temp_root())


def sweep_temp(seconds: float | None = None) -> None:
    """Delete what nobody has changed for `seconds`, or for as long as its part keeps things."""
    for part in Temporary:
        kept = part.seconds if seconds is None else seconds
        sweep_folder(temp_root() / part.folder, kept)
