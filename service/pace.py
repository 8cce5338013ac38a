"""How long a training step takes here: python -m service.pace JSON, a short process.

Running out of memory or time ends this process, not the one that asks. Of a deep model only one
and two layers are built and timed; the others take as long as the second.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import median

import torch

from gpt2.model import GPT2, ModelConfig
from train.compute import autocast
from train.config import TrainConfig
from train.lora import add_lora
from train.loss import NextTokenLoss
from train.memory import recompute_blocks
from train.optimizer import build_optimizers

_WHOLE_LAYERS = 4  # up to so many are timed as they are
_ENOUGH_SECONDS = 0.5  # a longer pass is timed once


@dataclass(frozen=True)
class Pace:
    """Seconds, on the machine and with the threads that measured them."""

    window: float  # forward and backward of one window
    update: float  # of all weights
    evaluation: float  # forward of one window


def measure(shape: ModelConfig, config: TrainConfig) -> Pace:
    """Of one window at a time, which costs no less than in a batch."""
    if shape.n_layer <= _WHOLE_LAYERS:
        return _measure(shape, config)
    one, two = (_measure(replace(shape, n_layer=layers), config) for layers in (1, 2))
    more = shape.n_layer - 1

    def grown(a: float, b: float) -> float:
        return a + more * max(0.0, b - a)

    return Pace(
        grown(one.window, two.window),
        grown(one.update, two.update),
        grown(one.evaluation, two.evaluation),
    )


def _measure(shape: ModelConfig, config: TrainConfig) -> Pace:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = GPT2(replace(shape, dropout=config.dropout)).to(device)
    if config.lora_rank:
        add_lora(model, config)
    if config.gradient_checkpointing:
        recompute_blocks(model)
    loss, optimizers = NextTokenLoss(model), build_optimizers(model, config)
    windows = torch.randint(shape.vocab_size, (1, config.block_size + 1), device=device)
    precision = autocast(config, device)

    def forward() -> torch.Tensor:
        with precision:
            return loss(windows)

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()

    window = _seconds(lambda: forward().backward())
    updated = _seconds(update)
    with torch.no_grad():
        return Pace(window, updated, _seconds(forward))


def _seconds(work: Callable[[], object]) -> float:
    """The median of three after a first one, unless the first takes long."""
    times = []
    for _ in range(4):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
        if times[0] > _ENOUGH_SECONDS:
            return times[0]
    return median(times[1:])


if __name__ == "__main__":
    os.nice(10)  # the server comes first
    wanted = json.loads(sys.argv[1])
    torch.set_num_threads(wanted["threads"])
    pace = measure(ModelConfig(**wanted["shape"]), TrainConfig(**wanted["config"]))
    print(json.dumps(asdict(pace)))
