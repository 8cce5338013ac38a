"""What a training run is told: `TrainConfig`, and `PRESETS`, rows of a model and a config."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from gpt2.errors import UserError
from gpt2.model import SIZES, ModelConfig


def _option(default: Any, meaning: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": meaning, "choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """One run. Every field is a flag of the command line; values that cannot work raise
    `UserError`. "Steps" are optimizer steps, "tokens" are the model's tokens."""

    steps: int = _option(400, "optimizer steps")
    batch_size: int = _option(8, "windows a step")
    micro_batch_size: int = _option(8, "windows a forward; a step accumulates over them")
    block_size: int = _option(256, "tokens a window")
    stride: int = _option(0, "tokens from one window to the next; 0 = block_size")
    learning_rate: float = _option(5e-5, "the peak rate")
    final_learning_rate: float = _option(5e-6, "the rate at the end of the schedule")
    warmup_steps: int = _option(20, "steps of linear warmup")
    schedule: str = _option("cosine", "the way down", ("cosine", "linear", "constant"))
    optimizer: str = _option(
        "adamw", "muon: for the block matrices, adamw for the rest", ("adamw", "muon")
    )
    weight_decay: float = _option(0.1, "on matrices only")
    beta1: float = _option(0.9, "AdamW's decay of the mean gradient")
    beta2: float = _option(0.95, "AdamW's decay of the mean square gradient")
    gradient_clip: float = _option(1.0, "largest gradient norm; 0 = off")
    dropout: float = _option(0.0, "share of activations dropped in training")
    lora_rank: int = _option(0, "train low-rank updates of this rank instead; 0 = all weights")
    lora_alpha: float = _option(16.0, "scale of the low-rank updates, over the rank")
    lora_targets: str = _option(
        "c_attn,c_proj,c_fc", "matrices with low-rank updates, comma-separated"
    )
    validation_share: float = _option(0.1, "share of the text kept for validation; 0 = none")
    split: str = _option(
        "tail", "what is kept: the tail, or whole documents", ("tail", "documents")
    )
    evaluate_every: int = _option(50, "steps between validations; 0 = at the ends only")
    sample_every: int = _option(50, "steps between samples; 0 = none")
    sample_prompt: str = _option("", "the prompt of the samples; empty = an end of text")
    sample_tokens: int = _option(100, "tokens a sample")
    save_every: int = _option(100, "steps between checkpoints; 0 = at the end only")
    keep: str = _option("best", "checkpoints: the best and the last two, or all", ("best", "all"))
    patience: int = _option(0, "stop after this many validations without a best; 0 = never")
    precision: str = _option(
        "auto", "auto: bfloat16 where it is fast", ("auto", "float32", "bfloat16", "float16")
    )
    compile: bool = _option(False, "compile the model first: slower to start, faster to run")
    gradient_checkpointing: bool = _option(
        False, "recompute activations: less memory, a third slower"
    )
    shard: bool = _option(
        False, "under torchrun: shard weights and optimizer over the ranks (FSDP)"
    )
    seed: int = _option(0, "of initialisation, batches, dropout and samples")

    def __post_init__(self) -> None:
        for option in fields(self):
            self._check_type(option.name, option.type, option.metadata["choices"])
        for name in ("steps", "batch_size", "micro_batch_size", "block_size", "sample_tokens"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for option in fields(self):
            if option.type in ("int", "float"):
                self._require(option.name, getattr(self, option.name) >= 0, "at least 0")
        for name in ("beta1", "beta2", "dropout", "validation_share"):
            self._require(name, getattr(self, name) < 1, "below 1")
        self._require("learning_rate", self.learning_rate > 0, "above 0")
        self._require(
            "micro_batch_size", self.micro_batch_size <= self.batch_size, "at most batch_size"
        )
        self._require("stride", self.stride <= self.block_size, "at most block_size")
        self._require("patience", not self.patience or self.evaluate_every, "0 without validations")

    def _check_type(self, name: str, kind: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if kind == "float" and type(value) is int:
            object.__setattr__(self, name, value := float(value))
        if type(value).__name__ != kind or (kind == "float" and not math.isfinite(value)):
            raise UserError(f"{name} must be a {_KINDS[kind]}, not {value!r}.")
        if choices and value not in choices:
            raise UserError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")

    def _require(self, name: str, holds: object, what: str) -> None:
        if not holds:
            raise UserError(f"{name} must be {what}, not {getattr(self, name)!r}.")


_KINDS = {"int": "whole number", "float": "number", "str": "text", "bool": "truth value"}


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
        cost="the embedded model: a minute on 2 cores; 124M: about 40 minutes",
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
            steps=3600,
            batch_size=16,
            micro_batch_size=16,
            learning_rate=6e-3,
            final_learning_rate=1e-4,
            warmup_steps=60,
            optimizer="muon",
            weight_decay=0.05,
            evaluate_every=300,
            sample_every=300,
            save_every=300,
        ),
        cost="about an hour on 2 cores",
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
