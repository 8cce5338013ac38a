"""One plain sentence about what a run achieved."""

from __future__ import annotations

import math

from service.status import RunStatus

MIN_VALIDATION_TOKENS = 512  # with fewer, the validation loss says little
_CLEAR = 0.005  # nats; less is noise
_OVERFITTED = 0.02


def verdict(status: RunStatus) -> str:
    """What the validation says, at any point in the run; "" if it is too early to say."""
    if status.base_loss is None or status.best_loss is None:
        if status.state.is_active or not status.progress:
            return ""
        return "The text is too short to validate, so there is no telling if the model improved."
    measured = [p for p in status.progress if p.validation_loss is not None]
    if len(measured) < 2:
        return ""
    sentence = _change(status, measured[-1].validation_loss)
    if status.validation_tokens < MIN_VALIDATION_TOKENS:
        kept = f"Only {status.validation_tokens} tokens were held out for validation"
        sentence += f" {kept}, so this is a rough estimate."
    return sentence


def _change(status: RunStatus, last: float) -> str:
    ended = status.state.is_ended
    if status.best_loss > status.base_loss - _CLEAR:
        if not ended:
            return "So far, the model is no better than the base model on the held-out text."
        return (
            "The model is no better than the base model on the held-out text "
            f"(validation loss {status.base_loss:.2f}): the text is too short to learn from, or "
            "the learning rate does not suit it."
        )
    fell = (
        f"validation loss fell from {status.base_loss:.2f} to {status.best_loss:.2f} "
        f"(perplexity {_perplexity(status.base_loss)} to {_perplexity(status.best_loss)})"
    )
    if last > status.best_loss + _OVERFITTED:
        kept = "the best checkpoint is kept" if ended else "the best checkpoint is safe"
        return f"Best at step {status.best_step}: {fell}. After that, it began to memorize; {kept}."
    if ended:
        return f"Best at step {status.best_step}: {fell}."
    return f"The {fell} so far, and it is still improving."


def _perplexity(loss: float) -> str:
    value = math.exp(min(loss, 50.0))
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
