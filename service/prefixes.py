"""Keys and values of prompts that were read before, so that they need not be read again.

Only whole chunks that were read as chunks are kept: their bits depend on the text alone, so that
reusing them changes none. What a visitor wrote is found by that visitor alone: neither the time nor
the text of an answer says anything about what others asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from torch import Tensor

from gpt2.model import KVCache


class Prefixes:
    """The chunks used last, in at most `budget` bytes. For one thread."""

    def __init__(self, chunk: int, budget: int) -> None:
        self._chunk, self._budget = chunk, budget
        self._kept: OrderedDict[tuple, Tensor] = OrderedDict()
        self.bytes = 0

    def restore(self, visitor: Hashable, tokens: Sequence[int], cache: KVCache) -> None:
        """Fill the empty cache with the chunks of `tokens` that are here, all but the last token,
        whose logits are wanted."""
        for end in range(self._chunk, len(tokens), self._chunk):
            key = (visitor, tuple(tokens[:end]))
            if key not in self._kept:
                return
            self._kept.move_to_end(key)
            cache.slab.narrow(4, cache.length, self._chunk).copy_(self._kept[key])
            cache.length = end

    def keep(self, visitor: Hashable, tokens: Sequence[int], cache: KVCache) -> None:
        """Take a copy of the whole chunks of `tokens`, with which `cache` has just been filled."""
        for end in range(self._chunk, min(len(tokens), cache.length) + 1, self._chunk):
            key = (visitor, tuple(tokens[:end]))
            if key not in self._kept:
                self._add(key, cache.slab.narrow(4, end - self._chunk, self._chunk).clone())

    def _add(self, key: tuple, chunk: Tensor) -> None:
        self._kept[key] = chunk
        self.bytes += chunk.nbytes
        while self.bytes > self._budget:
            self.bytes -= self._kept.popitem(last=False)[1].nbytes
