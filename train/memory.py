"""Memory: saved by recomputing, run out of."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from gpt2.model import GPT2


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
