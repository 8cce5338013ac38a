"""How a run computes: in which numbers, recomputing what it cannot keep, and out of memory."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from gpt2.errors import UserError
from gpt2.model import GPT2
from train.config import TrainConfig

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": None}


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Mixed precision as the config and the device want it, perhaps none: weights, gradients and
    optimizer state stay float32, matrix products are computed in the smaller type."""
    chosen = config.precision
    dtype = _automatic(device) if chosen == "auto" else _DTYPES[chosen]
    if dtype == torch.float16 and device.type == "cpu":
        raise UserError("float16 is for GPUs. On a CPU choose bfloat16 or float32.")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for what stays float32
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def _automatic(device: torch.device) -> torch.dtype | None:
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float16
    # Without these instructions bfloat16 is emulated, slower than float32.
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else None


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
