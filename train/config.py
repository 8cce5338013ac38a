"""Training configuration and presets: `TrainConfig`, and `PRESETS` of a model and a config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gpt2.errors import UserError
from gpt2.model import SIZES, ModelConfig
from gpt2.settings import check, setting

_STEPS = (0, 100_000)  # what a visitor may choose where steps are counted


@dataclass(frozen=True)
class TrainConfig:
    """One run; values that cannot work raise `UserError`. "Steps" are optimizer steps, "tokens" are
    the model's tokens.

    Every field is a flag of the command line; a server offers those that have an `offered` range
    to its visitors, and its page shows those that say `on_page`.
    """

    steps: int = setting(400, "optimizer steps", low=1, offered=(1, 100_000), on_page=True)
    batch_size: int = setting(8, "windows per step", low=1, offered=(1, 256), on_page=True)
    micro_batch_size: int = setting(
        8,
        "at most so many windows per forward; a step accumulates over them",
        title="Micro-batch size",
        low=1,
        offered=(1, 64),
        on_page=True,
    )
    block_size: int = setting(256, "tokens per window", low=1, offered=(8, 1024), on_page=True)
    stride: int = setting(0, "tokens from one window to the next; 0 = block_size", low=0)
    learning_rate: float = setting(
        5e-5, "the peak rate", above=0.0, offered=(1e-7, 0.1), on_page=True
    )
    final_learning_rate: float = setting(
        5e-6, "the rate at the end of the schedule", low=0.0, offered=(0.0, 0.1)
    )
    warmup_steps: int = setting(
        20, "steps of linear warmup", low=0, offered=(0, 10_000), on_page=True
    )
    schedule: str = setting(
        "cosine",
        "decay after warmup",
        choices=("cosine", "linear", "constant"),
        offered=True,
        on_page=True,
    )
    optimizer: str = setting(
        "adamw",
        "muon: for the block matrices, adamw for the rest",
        choices=("adamw", "muon"),
        offered=True,
    )
    weight_decay: float = setting(
        0.1, "on matrices only", low=0.0, offered=(0.0, 1.0), on_page=True
    )
    beta1: float = setting(0.9, "AdamW's decay of the mean gradient", low=0.0, below=1.0)
    beta2: float = setting(0.95, "AdamW's decay of the mean squared gradient", low=0.0, below=1.0)
    gradient_clip: float = setting(
        1.0, "largest gradient norm; 0 = off", low=0.0, offered=(0.0, 100.0), on_page=True
    )
    dropout: float = setting(
        0.0,
        "share of activations dropped in training",
        low=0.0,
        below=1.0,
        offered=(0.0, 0.9),
        on_page=True,
    )
    lora_rank: int = setting(
        0,
        "train low-rank updates of this rank instead; 0 = all weights",
        title="LoRA rank",
        low=0,
        offered=(0, 256),
        on_page=True,
    )
    lora_alpha: float = setting(
        16.0, "scale of the low-rank updates, over the rank", low=0.0, offered=(0.0, 1024.0)
    )
    lora_targets: str = setting(
        "c_attn,c_proj,c_fc", "matrices with low-rank updates, comma-separated"
    )
    validation_share: float = setting(
        0.1,
        "share of the text held out for validation; 0 = none",
        low=0.0,
        below=1.0,
        offered=(0.0, 0.5),
        on_page=True,
    )
    split: str = setting(
        "tail",
        "how validation text is held out: the tail, or whole documents",
        choices=("tail", "documents"),
    )
    evaluate_every: int = setting(
        50, "steps between validations; 0 = at the ends only", low=0, offered=_STEPS, on_page=True
    )
    sample_every: int = setting(
        50, "steps between samples; 0 = none", low=0, offered=_STEPS, on_page=True
    )
    sample_prompt: str = setting(
        "",
        "the prompt of the samples; empty = an end of text",
        offered=(0, 2000),
        on_page=True,
    )
    sample_tokens: int = setting(100, "tokens per sample", low=1, offered=(1, 300))
    save_every: int = setting(100, "steps between checkpoints; 0 = at the end only", low=0)
    keep: str = setting(
        "best", "checkpoints: the best and the last two, or all", choices=("best", "all")
    )
    patience: int = setting(
        0,
        "stop after this many validations without a best; 0 = never",
        low=0,
        offered=(0, 1000),
        on_page=True,
    )
    precision: str = setting(
        "auto",
        "auto: bfloat16 where it is fast",
        choices=("auto", "float32", "bfloat16", "float16"),
        offered=True,
        on_page=True,
    )
    compile: bool = setting(False, "compile the model first: slower to start, faster to run")
    gradient_checkpointing: bool = setting(
        False, "recompute activations: less memory, a third slower", offered=True
    )
    shard: bool = setting(
        False, "under torchrun: shard weights and optimizer over the ranks (FSDP)"
    )
    seed: int = setting(
        0,
        "of initialization, batches, dropout and samples",
        low=0,
        offered=(0, 2**31 - 1),
        on_page=True,
    )

    def __post_init__(self) -> None:
        check(self)
        # A smaller batch alone is the usual way out of too little memory: the part of it that is
        # computed at a time follows.
        object.__setattr__(self, "micro_batch_size", min(self.micro_batch_size, self.batch_size))
        for name, holds, what in (
            ("stride", self.stride <= self.block_size, "at most block_size"),
            ("patience", not self.patience or self.evaluate_every, "0 without validations"),
        ):
            if not holds:
                raise UserError(f"{name} must be {what}, not {getattr(self, name)!r}.")


# Settings that do nothing beside others: their names, whether that is so, and why.
_IDLE: tuple[tuple[tuple[str, ...], Callable[[TrainConfig], bool], str], ...] = (
    (
        ("lora_alpha", "lora_targets"),
        lambda config: not config.lora_rank,
        "without low-rank updates: set lora_rank too, to 8 say",
    ),
    (
        ("final_learning_rate",),
        lambda config: config.schedule == "constant",
        "with a constant schedule",
    ),
    (
        ("evaluate_every", "patience", "split"),
        lambda config: not config.validation_share,
        "where validation_share is 0: nothing is held out to validate on",
    ),
)


def with_changes(config: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    """`config` with what a user set. `UserError` for a setting that has no effect beside the others
    or contradicts them: nothing that was asked for is ignored."""
    changed = replace(config, **changes)
    if changes.get("micro_batch_size", 0) > changed.batch_size:
        raise UserError(
            f"micro_batch_size must be at most batch_size, {changed.batch_size}, not "
            f"{changes['micro_batch_size']}."
        )
    for names, is_idle, why in _IDLE:
        for name in names:
            if changes.get(name) and is_idle(changed):
                raise UserError(f"{name} has no effect {why}.")
    return changed


def begin_with(config: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    """As `with_changes`, of a preset: the warmup of a shorter run ends within it, and a lower peak
    rate takes the final one along."""
    follow = {}
    changed = with_changes(config, changes)
    if changed.warmup_steps >= changed.steps:
        follow["warmup_steps"] = changed.steps // 10
    if changed.final_learning_rate > changed.learning_rate:
        follow["final_learning_rate"] = changed.learning_rate
    return replace(changed, **{name: v for name, v in follow.items() if name not in changes})


@dataclass(frozen=True)
class Preset:
    """A row of `PRESETS`. The vocabulary size is the tokenizer's."""

    train: TrainConfig
    cost: str
    model: ModelConfig | None = None  # None: a model that exists is trained further
    tokenizer: str = "gpt2"  # or "characters", or "learned:N" for N byte pairs from the text


_CHARACTERS = TrainConfig(
    batch_size=64,
    micro_batch_size=64,
    learning_rate=1e-3,
    final_learning_rate=1e-4,
    warmup_steps=100,
    beta2=0.99,
    dropout=0.2,
    steps=5000,
    block_size=256,
    evaluate_every=250,
    sample_every=500,
    save_every=250,
)


PRESETS = {
    "finetune": Preset(
        train=TrainConfig(),
        cost="the bundled model: a minute on 2 cores; 124M: about 40 minutes",
    ),
    "shakespeare-char": Preset(
        model=ModelConfig(n_layer=6, n_head=6, n_embd=384, n_positions=256),
        tokenizer="characters",
        train=_CHARACTERS,
        cost="minutes on a GPU, most of a day on 2 cores",
    ),
    "shakespeare-char-mini": Preset(
        model=ModelConfig(n_layer=2, n_head=8, n_embd=256, n_positions=128),
        tokenizer="characters",
        train=replace(_CHARACTERS, block_size=128, batch_size=32, micro_batch_size=32, dropout=0.1),
        cost="about 15 minutes on 2 cores",
    ),
    "shakespeare-char-cpu": Preset(
        model=ModelConfig(n_layer=4, n_head=4, n_embd=128, n_positions=64),
        tokenizer="characters",
        train=replace(
            _CHARACTERS,
            block_size=64,
            batch_size=12,
            micro_batch_size=12,
            dropout=0.0,
            steps=2000,
            learning_rate=6e-3,
            final_learning_rate=0.0,
            schedule="linear",
            weight_decay=0.2,
            evaluate_every=1000,
            sample_every=1000,
            precision="float32",  # products this small gain nothing from bfloat16
        ),
        cost="about two minutes on 2 cores",
    ),
    "storyteller": Preset(
        model=ModelConfig(n_layer=4, n_head=4, n_embd=256, n_positions=256),
        tokenizer="learned:8192",
        train=TrainConfig(
            steps=11_500,
            batch_size=16,
            micro_batch_size=16,
            learning_rate=8e-3,
            final_learning_rate=0.0,
            warmup_steps=100,
            schedule="linear",
            optimizer="muon",
            beta2=0.98,
            validation_share=0.002,
            evaluate_every=1000,
            sample_every=1000,
            save_every=1000,
        ),
        cost="about an hour and a half on 2 cores",
    ),
    "gpt2-124M-scratch": Preset(
        model=SIZES["124M"],
        train=TrainConfig(
            steps=600_000,
            batch_size=480,
            micro_batch_size=12,
            block_size=1024,
            learning_rate=6e-4,
            final_learning_rate=6e-5,
            warmup_steps=2000,
            validation_share=0.0005,
            evaluate_every=1000,
            sample_every=1000,
            save_every=1000,
            compile=True,
        ),
        cost="days on 8 large GPUs",
    ),
}


def finetune_learning_rate(parameters: int) -> float:
    """The peak rate that suits a trained model of this many parameters."""
    for limit, rate in ((60e6, 3e-4), (200e6, 5e-5), (500e6, 3e-5), (1e9, 2e-5)):
        if parameters < limit:
            return rate
    return 1e-5
