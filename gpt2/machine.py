"""What this machine, or its container, has."""

from __future__ import annotations

import os
from pathlib import Path

from gpt2.system import physical_memory


def machine_memory() -> float:
    """Bytes this process may use: the machine's, or its container's if that is less."""
    physical = physical_memory()
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        limit = "max"
    return float(physical if limit == "max" else min(physical, int(limit)))


def core_count() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
