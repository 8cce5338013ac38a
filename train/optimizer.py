"""Parameter groups and the learning rate at a step, as pure functions."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from train.config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate at step 0, 1, ...: a linear warmup to the peak, then down to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    if config.schedule == "constant":
        return config.learning_rate
    progress = min(1.0, (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps))
    if config.schedule == "linear":
        above = 1 - progress
    else:
        above = 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_learning_rate + above * (config.learning_rate - config.final_learning_rate)


def build_optimizers(model: nn.Module, config: TrainConfig) -> list[Optimizer]:
    """AdamW over all trainable parameters, or Muon over the block matrices and AdamW over the rest.

    Only matrices get weight decay. Muon's steps are scaled to AdamW's size ("match_rms_adamw",
    Liu et al. 2025, arXiv 2502.16982), so one learning rate serves both.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    use_muon = config.optimizer == "muon"
    muon = [p for name, p in named if use_muon and name.startswith("h.") and p.dim() == 2]
    taken = {id(p) for p in muon}
    groups = [
        {
            "params": [p for _, p in named if p.dim() == 2 and id(p) not in taken],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for _, p in named if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizers: list[Optimizer] = []
    if any(group["params"] for group in groups):
        betas = (config.beta1, config.beta2)
        optimizers.append(AdamW(groups, lr=config.learning_rate, betas=betas, eps=1e-8, fused=True))
    if muon:
        decay, rate = config.weight_decay, config.learning_rate
        optimizers.append(Muon(muon, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def set_learning_rate(optimizers: list[Optimizer], rate: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
