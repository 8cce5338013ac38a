"""Parameter groups and the learning rate of a step, as pure functions."""

from __future__ import annotations

import math

import torch
from torch.optim import AdamW, Muon, Optimizer

from gpt2.model import GPT2
from train.config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """Of step 0, 1, ...: a linear warmup to the peak, then a cosine to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_learning_rate + cosine * (config.learning_rate - config.final_learning_rate)


def build_optimizers(model: GPT2, config: TrainConfig) -> list[Optimizer]:
    """AdamW over all parameters, or Muon over the block matrices and AdamW over the rest.

    Only matrices decay. Muon's steps are scaled to AdamW's size (Liu et al. 2025), so one
    learning rate serves both.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    muon = [p for name, p in named if config.optimizer == "muon" and name.startswith("h.") and p.dim() == 2]
    in_muon = {id(p) for p in muon}
    matrices = [p for _, p in named if p.dim() == 2 and id(p) not in in_muon]
    vectors = [p for _, p in named if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizers: list[Optimizer] = [
        AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), eps=1e-8, fused=True)
    ]
    if muon:
        optimizers.append(
            Muon(
                muon,
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimizers


def set_learning_rate(optimizers: list[Optimizer], rate: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def bfloat16_is_fast(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
