"""The training step and the loop around it: a generator of typed progress."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gpt2.model import GPT2
from train.config import TrainConfig
from train.data import Windows
from train.optimizer import bfloat16_is_fast, build_optimizers, learning_rate, set_learning_rate


@dataclass(frozen=True)
class Progress:
    """One line of a run's log. Losses are nats a token; None where nothing was measured."""

    step: int  # steps done
    loss: float | None  # the mean over all tokens of the step
    validation_loss: float | None
    learning_rate: float
    gradient_norm: float | None  # before clipping
    tokens_per_second: float | None


def train(
    model: GPT2, tokens: np.ndarray, validation: np.ndarray, config: TrainConfig
) -> Iterator[Progress]:
    """Train `model` in place on `tokens`; one `Progress` before the first step and after each."""
    torch.manual_seed(config.seed)
    autocast = _autocast(config, model.device)
    windows = Windows(tokens, config.block_size, config.batch_size, config.seed)
    optimizers = build_optimizers(model, config)
    yield Progress(0, None, evaluate(model, validation, config, autocast), 0.0, None, None)
    for step in range(config.steps):
        started = time.perf_counter()
        rate = learning_rate(config, step)
        set_learning_rate(optimizers, rate)
        model.train()
        batch = windows.batch(step).to(model.device)
        loss = _backward(model, batch, config, autocast)
        norm = torch.nn.utils.clip_grad_norm_(
            model.parameters(), config.gradient_clip or math.inf, foreach=True
        )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        speed = batch[:, 1:].numel() / (time.perf_counter() - started)
        done = step + 1
        validate = done == config.steps or (config.evaluate_every and done % config.evaluate_every == 0)
        validation_loss = evaluate(model, validation, config, autocast) if validate else None
        yield Progress(done, loss, validation_loss, rate, float(norm), speed)


def _backward(model: GPT2, batch: Tensor, config: TrainConfig, autocast) -> float:
    """Gradients of the mean loss over `batch` (B, T + 1), summed micro-batch by micro-batch."""
    total = 0.0
    for micro in batch.split(config.micro_batch_size):
        with autocast:
            loss = token_loss(model, micro).sum() / batch[:, 1:].numel()
        loss.backward()
        total += loss.item()
    return total


def token_loss(model: GPT2, windows: Tensor) -> Tensor:
    """The loss of every predicted token of (B, T + 1) windows: (B * T,), nats."""
    logits = model(windows[:, :-1])  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="none")


@torch.no_grad()
def evaluate(model: GPT2, tokens: np.ndarray, config: TrainConfig, autocast) -> float:
    """The mean loss over all of `tokens` after the first, in windows side by side; nats a token."""
    model.eval()
    total, block = 0.0, config.block_size
    starts = range(0, len(tokens) - 1, block)
    for first in range(0, len(starts), config.micro_batch_size):
        chunk = [tokens[start : start + block + 1] for start in starts[first : first + config.micro_batch_size]]
        ragged = chunk.pop() if len(chunk[-1]) < len(chunk[0]) else None
        for part in ([np.stack(chunk)] if chunk else []) + ([ragged[None]] if ragged is not None else []):
            with autocast:
                windows = torch.from_numpy(part.astype(np.int64)).to(model.device)
                total += token_loss(model, windows).double().sum().item()
    return total / (len(tokens) - 1)


def _autocast(config: TrainConfig, device: torch.device):
    wanted = config.precision == "bfloat16"
    if wanted or (config.precision == "auto" and bfloat16_is_fast(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
