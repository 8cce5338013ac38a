"""How a run computes: in which numbers, recomputing what it cannot keep, and out of memory."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from gpt2.model import GPT2
from gpt2.precision import computing_in, number_format
from gpt2.score import Measure
from train.config import TrainConfig


def training_format(config: TrainConfig, device: torch.device) -> str:
    """The number format of a run's matrix products; those in float32 are TF32 on a GPU."""
    name = number_format(config.precision, device)
    return "tf32" if name == "float32" and device.type == "cuda" else name


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Mixed precision as the config and the device want it, perhaps none: weights, gradients and
    optimizer state stay float32, matrix products are computed in the smaller type."""
    return computing_in(training_format(config, device), device)


def validation_measure(config: TrainConfig, device: torch.device) -> Measure:
    """How a run reads its validation text: in blocks side by side, in the numbers it trains in."""
    return Measure(config.block_size, config.block_size, training_format(config, device))


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
