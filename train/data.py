"""Text to tokens, and tokens to batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt2.errors import UserError
from gpt2.text import read_documents
from gpt2.tokenizer import Tokenizer


def encode_documents(path: Path, tokenizer: Tokenizer) -> np.ndarray:
    """All tokens of a file, uint16 or uint32, each document ended by the end of text."""
    kind = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    end = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    parts = [np.array(tokenizer.encode(text) + end, dtype=kind) for text in read_documents(path)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=kind)


class Windows:
    """Windows of block + 1 tokens, every token in one of them, in an order drawn anew each epoch.

    A batch is a function of (seed, step) alone, so a resumed run needs no state of this.
    """

    def __init__(self, tokens: np.ndarray, block_size: int, batch_size: int, seed: int) -> None:
        if len(tokens) < block_size + 1:
            raise UserError(f"The text has {len(tokens)} tokens; a block needs {block_size + 1}.")
        self._tokens = tokens
        self._block = block_size
        self._batch = batch_size
        self._seed = seed
        self._last_start = len(tokens) - block_size - 1
        self.per_epoch = -(-self._last_start // block_size) + 1
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0))

    def batch(self, step: int) -> Tensor:
        """(batch, block + 1) int64 of step 0, 1, ..."""
        first = step * self._batch
        return torch.stack([self._window(first + index) for index in range(self._batch)])

    def _window(self, number: int) -> Tensor:
        epoch, index = divmod(number, self.per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self._seed, epoch)).permutation(self.per_epoch))
        start = min(int(self._order[1][index]) * self._block, self._last_start)
        return torch.from_numpy(self._tokens[start : start + self._block + 1].astype(np.int64))
