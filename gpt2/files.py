"""Files and folders that appear whole or not at all: the one home of JSON and of atomic writes."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt2.errors import UserError
from gpt2.system import sync

# What a full disk, a quota and a limit on file sizes say.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
ASIDE = ".tmp-"  # how the name of whatever is still being written begins


def read_json(path: Path) -> object:
    """The value in a JSON file. `UserError` if it cannot be read."""
    try:
        if path.exists() and not path.is_file():  # to read a pipe could take forever
            raise UserError(f"{path} is not a file.")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from None


def to_json(value: object) -> str:
    """A value as it stands in our files."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: object, durable: bool = False) -> None:
    """As `write_text`."""
    write_text(path, to_json(value), durable)


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Replace a file; `durable`: it is on the disk when this returns."""
    with replacing(path, durable) as aside:
        aside.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """A file to write instead of `path`, which becomes `path` only if nothing went wrong."""
    aside = path.with_name(f"{ASIDE}{path.name}")
    try:
        yield aside
        if durable:
            sync(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, durable: bool = False, aside: str = "") -> Iterator[Path]:
    """An empty folder to fill instead of `path`, which takes the place of `path` only if nothing
    went wrong. `aside` is its name meanwhile, where several may fill one at a time."""
    filled = path.with_name(aside or f"{ASIDE}{path.name}")
    shutil.rmtree(filled, ignore_errors=True)  # of a process that was killed
    try:
        filled.mkdir(parents=True)
        yield filled
        if durable:
            for file in filled.iterdir():
                sync(file)
            sync(filled)
        _rename_folder(filled, path)
        if durable:
            sync(path.parent)
    finally:
        shutil.rmtree(filled, ignore_errors=True)


@contextmanager
def new_folder(path: Path, keep: str = "") -> Iterator[Path]:
    """A folder to fill instead of `path`, which becomes `path` only if nothing went wrong.

    `UserError` at once if `path` exists and is not empty, or if the disk gets full. With a word in
    `keep` a folder that broke off stays beside `path`, and the next call with that word gets it.
    """
    require_unused(path)
    try:
        if keep:
            aside = path.with_name(f".{path.name}.{keep}.partial")
            aside.mkdir(parents=True, exist_ok=True)
            yield aside
            _rename_folder(aside, path)
        else:
            with replacing_folder(path, aside=f".{path.name}.partial") as aside:
                yield aside
    except Exception as error:
        if is_disk_full(error):
            raise UserError(
                f"The disk of {path} is full. Make room, or choose a folder on another disk, and "
                "try again."
            ) from None
        if isinstance(error, PermissionError):
            raise UserError(f"{path} cannot be written: {error}.") from None
        raise


def is_disk_full(error: Exception) -> bool:
    """Whether a write failed for want of room: the disk's, a quota's, a limit's on file sizes."""
    # safetensors wraps the system's error into its own, with the code in the text.
    code = re.search(r"os error (\d+)", str(error))
    return getattr(error, "errno", None) in _FULL or (code is not None and int(code[1]) in _FULL)


def explain_os_error(error: OSError) -> str:
    """What the system refused, in a sentence that says what to do."""
    place = error.filename if isinstance(error.filename, (str, Path)) else None
    shown = f"{str(place)[:200]!r}" if place else "That"
    advice = {
        errno.EACCES: "Choose a place that you may write to, or change its permissions.",
        errno.EPERM: "Choose a place that you may write to, or change its permissions.",
        errno.EROFS: "It is on a read-only disk: choose another place.",
        errno.ENOTDIR: "A part of the path is a file: choose another place.",
        errno.EEXIST: "A file has that name: choose another place.",
        errno.ENAMETOOLONG: "Choose a shorter name.",
        errno.ELOOP: "It is a link in a circle: choose another place.",
        errno.ENOENT: "Check the path.",
        errno.ENOSPC: "The disk is full: make room.",
        errno.EADDRINUSE: "Another program listens there: choose another --port.",
    }.get(error.errno or 0, "")
    return f"{shown} cannot be used: {error.strerror or error}. {advice}".rstrip()


def sweep_folder(folder: Path, seconds: float, pattern: str = "*") -> None:
    """Delete the files and folders in `folder` that were last changed more than so long ago. Links
    are left alone: they may be somebody else's."""
    for path in folder.glob(pattern):
        try:
            about = os.lstat(path)
            if time.time() - about.st_mtime <= seconds:
                continue
            if stat.S_ISDIR(about.st_mode):
                shutil.rmtree(path, ignore_errors=True)
            elif stat.S_ISREG(about.st_mode):
                path.unlink()
        except OSError:  # somebody else was faster
            continue


def expand_home(path: str | Path) -> Path:
    """With "~" and "~name" as the folder that they mean, where there is one; `Path.expanduser`
    raises RuntimeError where the system knows no such user, or not even this one."""
    return Path(os.path.expanduser(path))


def has_home() -> bool:
    """Whether this user has a home folder, by HOME or by the system's list of users."""
    return os.path.expanduser("~") != "~"


def cache_folder() -> Path:
    """Where downloads and what was measured are kept: gpt2-from-scratch in the user's cache
    directory. `UserError` for a user without one."""
    if os.name == "nt" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "gpt2-from-scratch"
    base = os.environ.get("XDG_CACHE_HOME")
    if not base and not has_home():
        raise UserError(
            "There is no home folder to keep downloads in. Set XDG_CACHE_HOME to a folder for them."
        )
    return Path(base or expand_home("~/.cache")) / "gpt2-from-scratch"


def remove_path(path: Path) -> None:
    """Delete a file, a link or a whole folder, as far as that goes; nothing need be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def require_unused(path: Path) -> None:
    """`UserError` unless `path` is free for a new folder."""
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise UserError(
            f"{path} exists already and is not overwritten. Choose another folder, or remove it."
        )


def require_free_space(path: Path, needed: int) -> None:
    """`UserError` before anything is written if fewer than `needed` bytes are free."""
    existing = next(parent for parent in [path, *path.absolute().parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"The disk of {path} has {free / 1e9:.1f} GB left; {needed / 1e9:.1f} GB are needed."
        )


def list_folder(path: Path) -> list[Path]:
    """What is in a folder; nothing if it is none or cannot be read."""
    try:
        return [path / name for name in sorted(os.listdir(path))]
    except OSError:
        return []


def folder_bytes(folder: Path) -> int:
    """Of all files below `folder`, as far as they can be seen."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # deleted in this moment
                continue
    return total


def _rename_folder(source: Path, target: Path) -> None:
    if target.is_dir():  # only then may another take its name, on every system
        shutil.rmtree(target)
    source.rename(target)
