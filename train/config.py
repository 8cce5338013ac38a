"""What a training run is told: `TrainConfig`, and `PRESETS`, rows of a model and a config."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpt2.errors import UserError
from gpt2.model import ModelConfig

OPTIMIZERS = ("adamw", "muon")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TrainConfig:
    """One run. Values that cannot work raise `UserError`."""

    steps: int = 400  # optimizer steps
    batch_size: int = 8  # windows a step
    micro_batch_size: int = 8  # windows a forward; a step accumulates over batch_size of them
    block_size: int = 256  # tokens a window
    learning_rate: float = 5e-5  # the peak
    final_learning_rate: float = 5e-6  # where the cosine ends
    warmup_steps: int = 20
    optimizer: str = "adamw"  # "muon": Muon for the block matrices, AdamW for the rest
    weight_decay: float = 0.1  # on matrices only
    gradient_clip: float = 1.0  # the largest gradient norm; 0 = off
    dropout: float = 0.0
    evaluate_every: int = 100  # steps
    save_every: int = 100  # steps
    precision: str = "auto"  # "auto" is bfloat16 autocast where the machine computes it fast
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "micro_batch_size", "block_size"):
            self._check(name, int, 1)
        for name in ("warmup_steps", "evaluate_every", "save_every", "seed"):
            self._check(name, int, 0)
        for name in ("learning_rate", "final_learning_rate", "weight_decay", "gradient_clip"):
            self._check(name, (int, float), 0)
        if self.micro_batch_size > self.batch_size:
            raise UserError("micro_batch_size cannot be larger than batch_size.")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"optimizer must be one of {', '.join(OPTIMIZERS)}.")
        if self.precision not in PRECISIONS:
            raise UserError(f"precision must be one of {', '.join(PRECISIONS)}.")

    def _check(self, name: str, kinds: type | tuple, low: float) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value < math.inf:
            raise UserError(f"{name} must be a number of at least {low}, not {value!r}.")


@dataclass(frozen=True)
class Preset:
    """A model trained from scratch: its shape, its run, and what that costs."""

    model: ModelConfig
    train: TrainConfig
    cost: str


PRESETS = {
    "storyteller": Preset(
        model=ModelConfig(vocab_size=8192, n_positions=256, n_embd=256, n_layer=4, n_head=4),
        train=TrainConfig(
            steps=4000,
            batch_size=16,
            micro_batch_size=16,
            block_size=256,
            learning_rate=4e-3,
            final_learning_rate=1e-4,
            warmup_steps=100,
            optimizer="muon",
            weight_decay=0.05,
            evaluate_every=500,
            save_every=500,
        ),
        cost="about an hour on 2 cores",
    ),
}
