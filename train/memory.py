"""Memory: kept by the process, saved by recomputing, run out of."""

from __future__ import annotations

import ctypes

import torch
from torch.utils.checkpoint import checkpoint

from gpt2.model import GPT2

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt(3)
_LARGEST_KEPT = 32 * 2**20  # bytes; glibc takes no larger threshold
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks for the next allocation; False where there is no glibc.

    It returns blocks above 128 kB to the system at once, and a training step frees and allocates
    the same activations over and over: a small model spends an eighth of its time in page faults.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_TRIM_THRESHOLD, _NEVER))


def recompute_blocks(model: GPT2) -> None:
    """Gradient checkpointing: keep each block's input only, run it again in the backward."""
    for block in model.h:
        forward = block.forward
        block.forward = lambda x, cache, forward=forward: (
            checkpoint(forward, x, cache, use_reentrant=False)
            if torch.is_grad_enabled()
            else forward(x, cache)
        )


def is_out_of_memory(error: Exception) -> bool:
    """Whether it says that a device or the machine has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return "DefaultCPUAllocator" in str(error) or "alloc_cpu" in str(error)
