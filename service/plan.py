"""What a run would cost, before it starts: steps, time, memory, disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gpt2.errors import UserError
from gpt2.folder import empty_model
from gpt2.model import ModelConfig
from service.limits import Limits
from service.pace import Pace, find_pace
from service.request import EFFORTS, Effort
from service.status import MAX_RUN_SAMPLES
from train.config import TrainConfig, with_changes
from train.job import finetune_config

_START_SECONDS = 8.0  # starting a process, imports, the index, the result and its memorization
_PROCESS_BYTES = 400e6  # PyTorch and the tables, without a model
_BLOCK = 256
_EVALUATION_SHARE = 0.2  # of the training time
_FORWARD_SPEED = 2.5  # times the speed of forward and backward
_MIN_VALIDATION_WINDOWS = 8
_SIZES = (8, 4, 2)  # windows per step: the largest with which the preset still has
_STEPS_WANTED = 80  # this many steps


@dataclass(frozen=True)
class Plan:
    """Times are what this machine would need with nothing else to do."""

    seconds_per_step: float
    seconds: float  # for the whole run: start, training, evaluations, samples
    overhead: float  # all of that but the start, divided by the time of the steps alone
    memory_bytes: int  # at its peak, including the process
    disk_bytes: int  # at its largest
    steps: int
    note: str | None  # something the visitor should know
    config: TrainConfig  # exactly what would run
    validation_tokens: int  # the most that each evaluation measures


def plan_runs(
    shape: ModelConfig, changes: dict[str, Any], tokens: int, limits: Limits
) -> dict[str, Plan]:
    """The plan of each preset for a text of `tokens` tokens. The first call for a model's shape
    takes a few seconds (a step is measured in a short process of its own); later ones take none.

    `UserError` when the run does not fit this machine's memory.
    """
    config = first_config(shape, changes)
    pace = find_pace(shape, config, limits.threads, limits.device)
    return {
        name: make_plan(shape, config, effort, changes, tokens, pace, limits)
        for name, effort in EFFORTS.items()
    }


def make_plan(
    shape: ModelConfig,
    config: TrainConfig,
    effort: Effort,
    changes: dict[str, Any],
    tokens: int,
    pace: Pace,
    limits: Limits,
) -> Plan:
    """The plan of one preset at a known pace: `config` is the `first_config` of shape and
    changes."""
    if "batch_size" not in changes:
        config = _fit_batch(config, pace, effort)
    config = _fit_memory(config, shape, limits)
    token_seconds = _sample_seconds(shape)
    steps = changes.get("steps") or _steps(config, pace, token_seconds, effort, tokens)
    config = spare_samples(_schedule(config, changes, effort, steps))
    validation_tokens = _validation_tokens(config)
    step_seconds = config.batch_size * pace.window + pace.update
    windows = min(validation_tokens, tokens * config.validation_share) / config.block_size
    working = (
        steps * step_seconds
        + _times(config.evaluate_every, steps) * windows * pace.evaluation
        + _times(config.sample_every, steps) * config.sample_tokens * token_seconds
    )
    return Plan(
        seconds_per_step=step_seconds,
        seconds=_START_SECONDS + working,
        overhead=working / (steps * step_seconds),
        memory_bytes=int(memory(shape, config)),
        disk_bytes=int(disk(shape, config, tokens)),
        steps=steps,
        note=_note(_START_SECONDS + working, config, changes, limits),
        config=config,
        validation_tokens=validation_tokens,
    )


def first_config(shape: ModelConfig, changes: dict[str, Any]) -> TrainConfig:
    """The settings that suit the model, with the visitor's changes."""
    block = min(changes.get("block_size", _BLOCK), shape.n_positions)
    suited = replace(
        finetune_config(shape), batch_size=max(_SIZES[0], changes.get("micro_batch_size", 1))
    )
    if "learning_rate" in changes:
        suited = replace(suited, final_learning_rate=changes["learning_rate"] / 10)
    return with_changes(suited, changes | {"block_size": block})


def _fit_batch(config: TrainConfig, pace: Pace, effort: Effort) -> TrainConfig:
    """In a short time, many small steps teach more than a few large ones."""
    for size in _SIZES:
        if _STEPS_WANTED * (size * pace.window + pace.update) <= effort.seconds:
            break
    return replace(config, batch_size=size)


def _fit_memory(config: TrainConfig, shape: ModelConfig, limits: Limits) -> TrainConfig:
    """Fewer windows at a time, if that is enough. `UserError` if even one is too many."""
    most = limits.run_memory_bytes
    while memory(shape, config) > most:
        if config.micro_batch_size == 1:
            raise UserError(
                f"This run needs about {memory(shape, config) / 1e9:.1f} GB of memory; a run may "
                f"use {most / 1e9:.1f} GB here. Choose a smaller model or, under Advanced, a LoRA "
                "rank of 8 or a smaller block size."
            )
        config = replace(config, micro_batch_size=config.micro_batch_size // 2)
    return config


def _steps(
    config: TrainConfig, pace: Pace, token_seconds: float, effort: Effort, tokens: int
) -> int:
    """As many as the time and the preset's epochs allow, but not too few to see anything."""
    step = config.batch_size * pace.window + pace.update
    samples = (effort.measurements + 1) * effort.sample_tokens * token_seconds
    in_time = max(0.0, effort.seconds - samples) * (1 - _EVALUATION_SHARE) / step
    epoch = tokens * (1 - config.validation_share) / (config.batch_size * config.block_size)
    return max(effort.min_steps, int(min(in_time, effort.epochs * epoch)))


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


def spare_samples(config: TrainConfig) -> TrainConfig:
    """No more samples than a page shows: each takes time, disk, and every look at the run."""
    most = -(-config.steps // MAX_RUN_SAMPLES)
    return replace(config, sample_every=config.sample_every and max(config.sample_every, most))


def _validation_tokens(config: TrainConfig) -> int:
    """As many as let all evaluations together take about a fifth of the training time."""
    trained = config.steps * config.batch_size * config.block_size
    share = _EVALUATION_SHARE * _FORWARD_SPEED / _times(config.evaluate_every, config.steps)
    return max(_MIN_VALIDATION_WINDOWS * config.block_size, int(trained * share)) + 1


def _times(every: int, steps: int) -> int:
    """How often something happens: at step 0, every `every` steps, and at the end."""
    return 2 if not every else 1 + -(-steps // every)


def _sample_seconds(shape: ModelConfig) -> float:
    """Per generated token: all weights are read once, and every layer has its own cost."""
    return 4 * empty_model(shape).parameter_count() / 4e9 + 1e-3 * shape.n_layer


def memory(shape: ModelConfig, config: TrainConfig) -> float:
    """Peak bytes of a run: weights, gradients, AdamW's two means, a copy for a checkpoint,
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


def _note(
    seconds: float, config: TrainConfig, changes: dict[str, Any], limits: Limits
) -> str | None:
    notes = []
    if config.sample_every != changes.get("sample_every", config.sample_every):
        notes.append(
            f"It writes a sample every {config.sample_every:,} steps: a run here has at most "
            f"{MAX_RUN_SAMPLES}."
        )
    if seconds > limits.run_seconds:
        notes.append(
            f"This would take about {seconds / 3600:.1f} hours, but a run may take "
            f"only {limits.run_seconds / 3600:.1f} here. It will stop then and keep what it has; "
            "you can resume it."
        )
    return " ".join(notes) or None
