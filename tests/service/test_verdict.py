"""The sentence about a run, case by case."""

from __future__ import annotations

import math

import pytest

from service.status import RunStatus
from service.verdict import verdict
from train.run_folder import Progress
from train.states import RunState


def status(state="done", losses=(), validation_tokens=5000, **more):
    """A run validated every 10 steps with these losses."""
    points = tuple(
        Progress(10 * i, None if i == 0 else 3.0, loss, 1e-4, 1.0, 100.0)
        for i, loss in enumerate(losses)
    )
    measured = [(loss, 10 * i) for i, loss in enumerate(losses) if loss is not None]
    best = min(measured) if measured else (None, None)
    return RunStatus(
        id="0" * 32,
        state=RunState(state),
        model="storyteller",
        preset="taste",
        step=10 * max(0, len(losses) - 1),
        steps=100,
        progress=points,
        base_loss=measured[0][0] if measured else None,
        best_loss=best[0],
        best_step=best[1],
        validation_tokens=validation_tokens,
        **more,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"losses": (3.91, 3.6, 3.42)},
            "Best at step 20: validation loss fell from 3.91 to 3.42 (perplexity 50 to 31).",
        ),
        (
            {"losses": (3.91, 3.42, 3.43)},
            "Best at step 10: validation loss fell from 3.91 to 3.42 (perplexity 50 to 31).",
        ),
        (
            {"losses": (3.91, 3.42, 3.6)},
            "Best at step 10: validation loss fell from 3.91 to 3.42 (perplexity 50 to 31). "
            "After that, it began to memorize; the best checkpoint is kept.",
        ),
        (
            {"losses": (3.91, 3.42, 3.6), "state": "training"},
            "Best at step 10: validation loss fell from 3.91 to 3.42 (perplexity 50 to 31). "
            "After that, it began to memorize; the best checkpoint is safe.",
        ),
        (
            {"losses": (2.1, 1.9), "state": "training"},
            "The validation loss fell from 2.10 to 1.90 (perplexity 8.2 to 6.7) so far, and it is "
            "still improving.",
        ),
        (
            {"losses": (3.0, 3.2, 3.4), "state": "stopped"},
            "The model is no better than the base model on the held-out text (validation loss "
            "3.00): the text is too short to learn from, or the learning rate does not suit it.",
        ),
        (
            {"losses": (3.0, 2.999)},
            "The model is no better than the base model on the held-out text (validation loss "
            "3.00): the text is too short to learn from, or the learning rate does not suit it.",
        ),
        (
            {"losses": (3.0, 3.2), "state": "evaluating"},
            "So far, the model is no better than the base model on the held-out text.",
        ),
        (
            {"losses": (None, None)},
            "The text is too short to validate, so there is no telling if the model improved.",
        ),
        ({"losses": (None, None), "state": "training"}, ""),
        ({"losses": (3.0,), "state": "training"}, ""),
        ({"losses": (3.0,), "state": "stopped"}, ""),
        ({"losses": (), "state": "queued"}, ""),
        ({"losses": (), "state": "failed"}, ""),
        (
            {"losses": (3.91, 3.42), "validation_tokens": 90},
            "Best at step 10: validation loss fell from 3.91 to 3.42 (perplexity 50 to 31). Only "
            "90 tokens were held out for validation, so this is a rough estimate.",
        ),
        (
            {"losses": (1e6, 3.42)},
            f"Best at step 10: validation loss fell from 1000000.00 to 3.42 (perplexity "
            f"{math.exp(50):,.0f} to 31).",
        ),
    ],
)
def test_the_sentence(given, expected):
    assert verdict(status(**given)) == expected
