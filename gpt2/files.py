"""A folder that appears whole or not at all."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt2.errors import UserError

# What a full disk, a quota and a limit on file sizes say.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def new_folder(path: Path, keep: str = "") -> Iterator[Path]:
    """A folder to fill instead of `path`, which becomes `path` only if nothing went wrong.

    `UserError` at once if `path` exists and is not empty, or if the disk gets full. With a word in
    `keep` a folder that broke off stays beside `path`, and the next call with that word gets it.
    """
    refuse_occupied(path)
    aside = path.with_name(f".{path.name}{'.' * bool(keep)}{keep}.partial")
    try:
        if not keep:
            shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
        aside.mkdir(parents=True, exist_ok=True)
        yield aside
        if path.is_dir():
            path.rmdir()  # empty; only then may another take its name, on every system
        aside.rename(path)
    except Exception as error:
        if is_disk_full(error):
            raise UserError(
                f"The disk of {path} is full. Make room, or choose a folder on another disk, and "
                "try again."
            ) from None
        if isinstance(error, PermissionError):
            raise UserError(f"{path} cannot be written: {error}.") from None
        raise
    finally:
        if not keep:
            shutil.rmtree(aside, ignore_errors=True)


def is_disk_full(error: Exception) -> bool:
    """Whether a write failed for want of room: the disk's, a quota's, a limit's on file sizes."""
    # safetensors wraps the system's error into its own, with the code in the text.
    code = re.search(r"os error (\d+)", str(error))
    return getattr(error, "errno", None) in _FULL or (code is not None and int(code[1]) in _FULL)


def refuse_occupied(path: Path) -> None:
    """`UserError` unless `path` is free for a new folder."""
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise UserError(
            f"{path} exists already and is not overwritten. Choose another folder, or remove it."
        )


def refuse_small_disk(path: Path, needed: int) -> None:
    """`UserError` before anything is written if fewer than `needed` bytes are free."""
    existing = next(parent for parent in [path, *path.absolute().parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"The disk of {path} has {free / 1e9:.1f} GB left; {needed / 1e9:.1f} GB are needed."
        )
