"""What not every operating system has: the only module that asks for it.

Generating, training and the page itself work without any of it; what cannot, says so.
"""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path
from typing import IO

from gpt2.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_UNKNOWN_MEMORY = 4e9  # bytes; a guess on the safe side


class NeedsPosix(UserError):
    """Something that this operating system cannot do."""


def lock_file(file: IO, shared: bool = False) -> bool:
    """Lock an open file for as long as it stays open, or its process lives; False if another
    process has it. `NeedsPosix` where no system guarantees that end."""
    if fcntl is None:
        raise NeedsPosix(
            "Fine-tuning on the page needs Linux or macOS: only there a lock ends with its "
            "process. Train with `python -m train run` instead."
        )
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def physical_memory() -> float:
    """Bytes of memory in this machine; a cautious guess where the system does not say."""
    if hasattr(os, "sysconf"):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if hasattr(ctypes, "windll"):
        return _memory_of_windows() or _UNKNOWN_MEMORY
    return _UNKNOWN_MEMORY


def resident_bytes(process: int | str = "self") -> int | None:
    """The memory of a process; None where the system does not say, or it is gone."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, AttributeError):
        return None


def _memory_of_windows() -> float:
    """Windows fills a structure of two 32-bit and seven 64-bit numbers, its own size first."""
    status = (ctypes.c_uint64 * 8)(64)
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return 0.0
    return float(status[1])  # the first 64-bit number: all physical memory


def lower_priority(by: int) -> None:
    """Let other processes have the processor first, where the system can be asked to."""
    if hasattr(os, "nice"):
        os.nice(by)


def user_name() -> str:
    """A name for the user that no other user of this machine has, as far as the system tells."""
    return str(os.getuid()) if hasattr(os, "getuid") else "user"


def is_own_folder(path: Path) -> bool:
    """Whether `path` is a folder of this user's, not a link, and can be written."""
    try:
        about = path.lstat()
    except OSError:
        return False
    own = not hasattr(os, "getuid") or about.st_uid == os.getuid()
    return own and stat.S_ISDIR(about.st_mode) and os.access(path, os.W_OK | os.X_OK)


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders, and needs no such call
        return
    # Windows writes out only what was opened for writing.
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
