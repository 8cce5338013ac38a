"""How long a training step takes here: python -m service.pace JSON, a short process.

Running out of memory or time ends this process, not the one that asks. For a deep model, only one
and two layers are built and timed; each further layer takes as long as the second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import torch

from gpt2.device import choose_device
from gpt2.errors import UserError
from gpt2.folder import empty_model
from gpt2.model import GPT2, ModelConfig
from gpt2.system import lower_priority
from service.zero_gpu import is_zero_gpu
from train.compute import autocast, recompute_blocks
from train.config import TrainConfig
from train.lora import add_lora
from train.loss import NextTokenLoss
from train.optimizer import build_optimizers

_ROOT = Path(__file__).parents[1]
_PROBE_SECONDS = 120.0
_WHOLE_LAYERS = 4  # models with no more layers are timed as they are
_ENOUGH_SECONDS = 0.5  # a longer pass is timed once


@dataclass(frozen=True)
class Pace:
    """Seconds, on this machine and with this many threads."""

    window: float  # forward and backward of one window
    update: float  # of all weights
    evaluation: float  # forward of one window


def measure(shape: ModelConfig, config: TrainConfig, device: torch.device) -> Pace:
    """The pace for one window at a time, which costs no less than in a batch."""
    if shape.n_layer <= _WHOLE_LAYERS:
        return _measure(shape, config, device)
    one, two = (_measure(replace(shape, n_layer=layers), config, device) for layers in (1, 2))
    more = shape.n_layer - 1

    def grown(a: float, b: float) -> float:
        return a + more * max(0.0, b - a)

    return Pace(
        grown(one.window, two.window),
        grown(one.update, two.update),
        grown(one.evaluation, two.evaluation),
    )


def _measure(shape: ModelConfig, config: TrainConfig, device: torch.device) -> Pace:
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
    """The median of three passes after a first one, or just the first if it takes long."""
    times = []
    for _ in range(4):
        started = time.perf_counter()
        work()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - started)
        if times[0] > _ENOUGH_SECONDS:
            return times[0]
    return median(times[1:])


_TOLD = ("lora_targets", "precision", "optimizer", "gradient_checkpointing")
_DROPOUT = 0.1  # any other takes as long
_paces: dict[str, Pace] = {}
_similar: dict[str, tuple[int, Pace]] = {}  # by shape: the block size and pace measured last
_measuring = threading.Lock()


def find_pace(shape: ModelConfig, config: TrainConfig, threads: int, device: str = "auto") -> Pace:
    """The pace of such a model here, measured once. Only settings that affect it count, and block
    size and rank only by their next larger power of two: visitors cannot ask for many measurements.
    While another is made, that of a similar run serves."""
    if is_zero_gpu():
        return _assumed_pace(shape, config)
    choose_device(device)  # if it is not here, say so, instead of "too little memory"
    blocks = min(_next_power(config.block_size), shape.n_positions)
    told = {name: getattr(config, name) for name in _TOLD} | {
        "block_size": blocks,
        "lora_rank": min(_next_power(config.lora_rank), shape.n_embd, 128),
        "dropout": _DROPOUT,
    }
    wanted = {"shape": asdict(replace(shape, dropout=0.0)), "threads": threads, "device": device}
    key = json.dumps({**wanted, "config": told}, sort_keys=True)
    similar = json.dumps(wanted, sort_keys=True)
    if key not in _paces and (known := _similar.get(similar)) and _measuring.locked():
        known_blocks, pace = known
        return _scaled(pace, config.block_size / known_blocks)
    with _measuring:  # two at a time would slow each other down
        if key not in _paces:
            _paces[key] = _measure_in_process(key, threads)
            _similar[similar] = (blocks, _paces[key])
        return _scaled(_paces[key], config.block_size / blocks)


_GPU_FLOPS = 2e13  # a second, of which a card of today gives several times as many
_GPU_LAUNCH = 0.02  # seconds a pass, for starting its operations
_GPU_BYTES = 5e11  # a second


def _assumed_pace(shape: ModelConfig, config: TrainConfig) -> Pace:
    """On ZeroGPU, where measuring would cost the visitor's quota: careful, by operations alone."""
    parameters = empty_model(shape).parameter_count()
    forward = _GPU_LAUNCH / 3 + 2 * parameters * config.block_size / _GPU_FLOPS
    return Pace(3 * forward, _GPU_LAUNCH + 20 * parameters / _GPU_BYTES, forward)


def _next_power(count: int) -> int:
    return 1 << (count - 1).bit_length() if count else 0


def _scaled(pace: Pace, share: float) -> Pace:
    """Of shorter windows; the time of a window grows with its tokens."""
    if share == 1:
        return pace
    return Pace(pace.window * share, pace.update, pace.evaluation * share)


def _measure_in_process(wanted: str, threads: int) -> Pace:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    try:
        process = subprocess.run(
            [sys.executable, "-m", "service.pace", wanted],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=True,
        )
        return Pace(**json.loads(process.stdout))
    except subprocess.TimeoutExpired:
        raise UserError(
            f"A single step of this model takes more than {_PROBE_SECONDS / 60:.0f} minutes here. "
            "Choose a smaller model or a smaller block size."
        ) from None
    except (subprocess.CalledProcessError, ValueError, TypeError):
        raise UserError(
            "A step of this model could not be measured: it probably does not fit in this "
            "machine's memory. Choose a smaller model or a smaller block size."
        ) from None


if __name__ == "__main__":
    lower_priority(10)  # the server comes first
    wanted = json.loads(sys.argv[1])
    torch.set_num_threads(wanted["threads"])
    device = choose_device(wanted["device"])
    pace = measure(ModelConfig(**wanted["shape"]), TrainConfig(**wanted["config"]), device)
    print(json.dumps(asdict(pace)))
