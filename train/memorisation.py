"""How much of what a model writes stands word for word in the text it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2.tokenizer import Tokenizer

GRAM = 8  # tokens


@dataclass(frozen=True)
class Memorisation:
    """Of one sample, or of several taken together."""

    longest: str  # the longest passage that stands in the training text; "" below 8 tokens
    longest_characters: int
    share_of_8_grams: float  # 0 to 1: of the samples' runs of 8 tokens


class TrainingText:
    """The tokens of a training text and an order that finds any run of 8 of them."""

    @classmethod
    def build(cls, tokens: np.ndarray, tokenizer: Tokenizer) -> TrainingText:
        """Index `tokens` (n,), once."""
        raise NotImplementedError

    @classmethod
    def open(cls, folder: Path, tokens: np.ndarray, tokenizer: Tokenizer) -> TrainingText:
        """The index that `save` left in `folder`, memory-mapped."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    def measure(self, *samples: str) -> Memorisation:
        """The samples taken together."""
        raise NotImplementedError

    def spans(self, sample: str) -> list[tuple[str, bool]]:
        """The sample cut into (text, whether it stands in the training text: 8 tokens or more).
        Joined, the texts are the sample."""
        raise NotImplementedError
