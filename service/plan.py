"""What a run would cost, before it starts: steps, time, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gpt2.errors import UserError
from gpt2.folder import empty_model, read_config
from gpt2.hub.resolve import resolve
from gpt2.machine import machine_memory
from gpt2.model import ModelConfig
from gpt2.tokenizer import load_tokenizer
from service.pace import Pace
from service.request import Limits, RunOrder
from service.text_summary import describe_text
from train.config import TrainConfig
from train.job import finetune_config

_ROOT = Path(__file__).parents[1]
_PROBE_SECONDS = 120.0
_START_SECONDS = 8.0  # a process, its imports, the index, the result and its memorisation
_PROCESS_BYTES = 400e6  # PyTorch and the tables, without a model
_BLOCK = 256
_EVALUATION_SHARE = 0.2  # of the time of training
_FORWARD_SPEED = 2.5  # times the speed of forward and backward
_FEWEST_VALIDATION_WINDOWS = 8


@dataclass(frozen=True)
class Effort:
    """A preset: as many steps as fit into `seconds`, within `epochs` of the text, not too few."""

    seconds: float  # in all, but for the start
    epochs: float
    fewest_steps: int
    measurements: int  # evaluations and samples after the first
    sample_tokens: int
    patience: int


EFFORTS = {
    "taste": Effort(35, 12, 20, 10, 60, 0),
    "good": Effort(5 * 60, 20, 60, 10, 100, 0),
    "thorough": Effort(40 * 60, 40, 150, 20, 100, 5),
}
_SIZES = (8, 4, 2)  # windows a step: the largest with which the preset still makes
_STEPS_WANTED = 80  # so many steps


@dataclass(frozen=True)
class Estimate:
    """The plan of a run. Time is what this machine would need with nothing else to do."""

    seconds_per_step: float
    seconds: float  # of the whole run: its start, training, evaluations, samples
    overhead: float  # the time of all that by the time of the steps alone, but for the start
    memory_bytes: int  # at its peak, the process included
    disk_bytes: int  # at its largest
    steps: int
    note: str | None  # what the visitor should know
    config: TrainConfig  # exactly what would run
    validation_tokens: int  # each evaluation measures at most so many


def estimate(
    order: RunOrder,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    tokens: int | None = None,
) -> Estimate:
    """The plan of an order. The first time for a model's shape takes a few seconds (a step is
    measured in a short process of its own), later times none.

    `tokens` of the text, where they are known from its card; they are counted otherwise.
    `UserError` when the run does not fit this machine's memory, or the text cannot be used.
    """
    base = resolve(order.model)
    shape = read_config(base)
    if tokens is None:
        source = order.text if order.file is None else order.file
        tokenizer = load_tokenizer(base)
        window = shape.n_positions
        tokens = describe_text(source, tokenizer, window, order.column, limits).tokens
    return _plan(order, shape, tokens, limits)


def _plan(order: RunOrder, shape: ModelConfig, tokens: int, limits: Limits) -> Estimate:
    changes, effort = dict(order.changes), EFFORTS[order.preset]
    config = _begin(shape, changes)
    pace = measured(shape, config, limits.threads)
    if "batch_size" not in changes:
        config = _fit_batch(config, pace, effort)
    config = _fit_memory(config, shape, limits)
    token_seconds = _sample_seconds(shape)
    steps = changes.get("steps") or _steps(config, pace, token_seconds, effort, tokens)
    config = _schedule(config, changes, effort, steps)
    validation_tokens = _validation_tokens(config)
    step_seconds = config.batch_size * pace.window + pace.update
    windows = min(validation_tokens, tokens * config.validation_share) / config.block_size
    working = (
        steps * step_seconds
        + _times(config.evaluate_every, steps) * windows * pace.evaluation
        + _times(config.sample_every, steps) * config.sample_tokens * token_seconds
    )
    return Estimate(
        seconds_per_step=step_seconds,
        seconds=_START_SECONDS + working,
        overhead=working / (steps * step_seconds),
        memory_bytes=int(memory(shape, config)),
        disk_bytes=int(disk(shape, config, tokens)),
        steps=steps,
        note=_note(_START_SECONDS + working, limits),
        config=config,
        validation_tokens=validation_tokens,
    )


def _begin(shape: ModelConfig, changes: dict) -> TrainConfig:
    """The visitor's settings over those that suit the model."""
    block = min(changes.get("block_size", _BLOCK), shape.n_positions)
    changes = changes | {"block_size": block}
    if "learning_rate" in changes:
        changes.setdefault("final_learning_rate", changes["learning_rate"] / 10)
    batch = changes.setdefault("batch_size", max(_SIZES[0], changes.get("micro_batch_size", 1)))
    changes.setdefault("micro_batch_size", min(batch, _SIZES[0]))
    return replace(finetune_config(shape), **changes)


def _fit_batch(config: TrainConfig, pace: Pace, effort: Effort) -> TrainConfig:
    """Many small steps teach more in little time than a few large ones."""
    for size in _SIZES:
        if _STEPS_WANTED * (size * pace.window + pace.update) <= effort.seconds:
            break
    micro = min(config.micro_batch_size, size)
    return replace(config, batch_size=size, micro_batch_size=micro)


def _fit_memory(config: TrainConfig, shape: ModelConfig, limits: Limits) -> TrainConfig:
    """Fewer windows at a time, where that is enough. `UserError` where one is too many."""
    most = machine_memory() * limits.memory_share
    while memory(shape, config) > most:
        if config.micro_batch_size == 1:
            raise UserError(
                f"This run needs about {memory(shape, config) / 1e9:.1f} GB of memory; a run may "
                f"use {most / 1e9:.1f} GB here. Choose a smaller model, or, under Advanced, LoRA "
                "(a rank of 8), shorter blocks or gradient checkpointing."
            )
        config = replace(config, micro_batch_size=config.micro_batch_size // 2)
    return config


def _steps(
    config: TrainConfig, pace: Pace, token_seconds: float, effort: Effort, tokens: int
) -> int:
    """What the time allows, within the preset's epochs, but not too few to see anything."""
    step = config.batch_size * pace.window + pace.update
    samples = (effort.measurements + 1) * effort.sample_tokens * token_seconds
    in_time = max(0.0, effort.seconds - samples) * (1 - _EVALUATION_SHARE) / step
    epoch = tokens * (1 - config.validation_share) / (config.batch_size * config.block_size)
    return max(effort.fewest_steps, int(min(in_time, effort.epochs * epoch)))


def _schedule(config: TrainConfig, changes: dict, effort: Effort, steps: int) -> TrainConfig:
    every = max(1, steps // effort.measurements)
    suited = {
        "steps": steps,
        "warmup_steps": min(20, steps // 10),
        "evaluate_every": every,
        "sample_every": every,
        "sample_tokens": effort.sample_tokens,
        "save_every": every,
        "patience": effort.patience if changes.get("evaluate_every", 1) else 0,
    }
    return replace(config, **{name: v for name, v in suited.items() if name not in changes})


def _validation_tokens(config: TrainConfig) -> int:
    """So many that all evaluations together take about a fifth of the time of training."""
    trained = config.steps * config.batch_size * config.block_size
    share = _EVALUATION_SHARE * _FORWARD_SPEED / _times(config.evaluate_every, config.steps)
    return max(_FEWEST_VALIDATION_WINDOWS * config.block_size, int(trained * share)) + 1


def _times(every: int, steps: int) -> int:
    """How often something happens: at step 0, every so many steps, and at the end."""
    return 2 if not every else 1 + -(-steps // every)


def _sample_seconds(shape: ModelConfig) -> float:
    """A generated token: its weights are read once, and every layer has its own costs."""
    return 4 * empty_model(shape).parameter_count() / 4e9 + 1e-3 * shape.n_layer


def memory(shape: ModelConfig, config: TrainConfig) -> float:
    """Bytes at the peak of a run: weights, gradients, AdamW's two means, a copy for a checkpoint,
    activations, logits."""
    weights = empty_model(shape).parameter_count()
    trained = _trained(shape, config)
    logits = 3 * 4 * shape.vocab_size
    a_layer = 4 * (20 + 8 * bool(config.lora_rank)) * shape.n_embd
    layers = shape.n_layer * (4 * shape.n_embd if config.gradient_checkpointing else a_layer)
    tokens = config.micro_batch_size * config.block_size
    return _PROCESS_BYTES + 4 * weights + 16 * trained + tokens * (logits + layers)


def disk(shape: ModelConfig, config: TrainConfig, tokens: int) -> float:
    """Bytes of a run folder at its largest: tokens and their index, the last two checkpoints, the
    best and the one being written, the result."""
    weights = empty_model(shape).parameter_count()
    return 4 * 12 * _trained(shape, config) + 4 * weights + 8 * tokens + 2e6


def _trained(shape: ModelConfig, config: TrainConfig) -> int:
    if not config.lora_rank:
        return empty_model(shape).parameter_count()
    return 18 * shape.n_embd * config.lora_rank * shape.n_layer  # c_attn, c_fc and two c_proj


def _note(seconds: float, limits: Limits) -> str | None:
    if seconds <= limits.run_seconds:
        return None
    return (
        f"This would take about {seconds / 3600:.1f} hours, and a run may take "
        f"{limits.run_seconds / 3600:.1f} here. It will stop then and keep what it has; you can "
        "resume it."
    )


_paces: dict[str, Pace] = {}
_measuring = threading.Lock()


def measured(shape: ModelConfig, config: TrainConfig, threads: int) -> Pace:
    """The pace of such a model here, measured once. What does not change it is left out."""
    names = ("block_size", "lora_rank", "lora_targets", "precision", "optimizer", "dropout")
    told = {name: getattr(config, name) for name in (*names, "gradient_checkpointing")}
    wanted = {"shape": asdict(shape), "config": told, "threads": threads}
    key = json.dumps(wanted, sort_keys=True)
    with _measuring:  # two at a time would slow each other
        if key not in _paces:
            _paces[key] = _probe(key, threads)
        return _paces[key]


def _probe(wanted: str, threads: int) -> Pace:
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
            "Choose a smaller model or shorter blocks."
        ) from None
    except (subprocess.CalledProcessError, ValueError, TypeError):
        raise UserError(
            "A step of this model could not be measured: it probably does not fit into this "
            "machine's memory. Choose a smaller model or shorter blocks."
        ) from None
