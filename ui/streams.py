"""A running generation as a few steps a second, however fast the model is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from gpt2.generate import generate_pieces
from gpt2.sampling import Sampling
from ui.models import Loaded
from ui.write.history import Step

SECONDS_BETWEEN = 0.13  # 7 to 8 updates a second


def stream_step(loaded: Loaded, step: Step, sampling: Sampling) -> Iterator[Step]:
    """`step` as it grows; the last one has an ending for every sample.

    Nothing runs between two steps: who stops asking has stopped the computation.
    """
    texts = [""] * sampling.samples
    counts = [0] * sampling.samples
    endings: list[str | None] = [None] * sampling.samples
    started = time.perf_counter()
    shown = 0.0  # so the first token shows at once

    def snapshot() -> Step:
        return replace(
            step,
            texts=tuple(texts),
            tokens=sum(counts),
            seconds=time.perf_counter() - started,
            seed=sampling.seed,
            endings=tuple(endings),
        )

    for piece in generate_pieces(loaded.model, loaded.tokenizer, step.basis, sampling):
        texts[piece.sample] += piece.text
        counts[piece.sample] = piece.tokens
        endings[piece.sample] = piece.stop_reason
        if not all(endings) and time.perf_counter() - shown >= SECONDS_BETWEEN:
            yield snapshot()
            shown = time.perf_counter()
    yield snapshot()
