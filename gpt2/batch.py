"""Texts that are written together, a token of each at a time; they join and leave at any step.

A `BatchRow` is one text: its tokens, its cache, and how it draws. `read_row` takes the next chunk
of a prompt, `step_rows` draws one token for each row that is ready. Neither knows visitors: whose
turn it is belongs to `service.engine`. A row's tokens are those of `gpt2.generate.generate_batch`,
bit for bit, whichever rows are stepped with it (see `gpt2.decode`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gpt2.decode import decode_rows, read_chunk
from gpt2.model import GPT2
from gpt2.sampling import Sampling, sample_among
from gpt2.sampling_rows import Draw, sample_rows


class BatchRow:
    """One text, from its prompt's ids (at least one) on."""

    def __init__(
        self,
        model: GPT2,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        openings: list[int] | None = None,
    ) -> None:
        """The first token is one of `openings`, where they are given."""
        self.window = model.config.n_positions
        self.context = list(prompt_ids[-self.window :])  # what the cache holds, or is to hold
        self.cache = model.new_cache(1, capacity_of(model, len(prompt_ids), sampling))
        self.logits: Tensor | None = None  # (V,) of the next token, once they are known
        self._openings = openings
        # The last window of tokens, in any order; the last one is repeated where it is shorter.
        self._recent = torch.tensor(self.context, device=model.device)
        padding = self._recent[-1:].expand(self.window - len(self.context))
        self._recent = torch.cat((self._recent, padding))
        self._oldest = len(self.context) % self.window
        self._begin(sampling)

    def _begin(self, sampling: Sampling) -> None:
        generator = torch.Generator().manual_seed(sampling.seed)
        self._draw = Draw(self._recent, sampling, generator)

    def fork(self, sample: int) -> BatchRow:
        """Another sample of the same prompt, which has just been read."""
        other = object.__new__(BatchRow)
        other.__dict__ |= self.__dict__
        other.context, other.cache = list(self.context), self.cache.repeat(1)
        other._recent = self._recent.clone()
        how = self._draw.sampling
        other._begin(replace(how, seed=how.seed + sample))
        return other

    @property
    def is_ready(self) -> bool:
        """Whether `step_rows` may take it; otherwise it is for `read_row`."""
        return self.logits is not None or self.missing == 1

    @property
    def missing(self) -> int:
        """How many tokens the cache is to take before the next one is drawn."""
        return len(self.context) - self.cache.length

    def draw_alone(self, logits: Tensor) -> int | None:
        """The first token where only some may be drawn; None where `sample_rows` is to draw it."""
        if not self._openings:
            return None
        draw, openings = self._draw, self._openings
        return sample_among(openings, logits, draw.context, draw.sampling, draw.generator)

    @property
    def draw(self) -> Draw:
        return self._draw

    def add(self, token: int) -> None:
        """Past the window it begins to read the last three quarters again."""
        self.logits = self._openings = None
        self.context.append(token)
        self._recent[self._oldest] = token
        self._oldest = (self._oldest + 1) % self.window
        if self.cache.length == self.window:
            self.context = self.context[-(self.window - self.window // 4) :]
            self.cache.length = 0


def capacity_of(model: GPT2, prompt: int, sampling: Sampling) -> int:
    """The tokens that a row's cache has room for."""
    return min(model.config.n_positions, prompt + sampling.max_new_tokens)


def read_row(model: GPT2, row: BatchRow) -> int:
    """Read the row's next chunk; how many tokens it had."""
    before = row.cache.length
    row.logits = read_chunk(model, row.context, row.cache)
    return row.cache.length - before


def step_rows(model: GPT2, rows: Sequence[BatchRow], at_once: int, vocabulary: int) -> list[int]:
    """The next token of each row, all of them ready. `at_once` are computed together; only ids
    below `vocabulary` are drawn. A call that raises can be repeated for some of the rows."""
    waiting = [row for row in rows if row.logits is None]
    for begin in range(0, len(waiting), at_once):
        some = waiting[begin : begin + at_once]
        logits = decode_rows(model, [row.context[-1] for row in some], [row.cache for row in some])
        for row, own in zip(some, logits):
            row.logits = own
    logits = torch.stack([row.logits for row in rows])[:, :vocabulary]  # (R, V)
    alone = [row.draw_alone(own) for row, own in zip(rows, logits)]
    others = [index for index, token in enumerate(alone) if token is None]
    drawn = sample_rows(
        logits if len(others) == len(rows) else logits[others], [rows[i].draw for i in others]
    )
    for index, token in zip(others, drawn):
        alone[index] = token
    for row, token in zip(rows, alone):
        row.add(token)
    return alone
