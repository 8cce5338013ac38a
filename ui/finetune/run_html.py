"""A run in words and bars: pure functions from its status to HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator

from service.status import RunStatus
from train.run_folder import Progress
from train.states import RunState
from ui.finetune.chart import Points, loss_chart
from ui.words import about, duration, rate

# The look of a state's pill, by state or else by phase.
_KINDS = {"waiting": "waiting", "running": "busy", "ended": "good"} | {
    RunState.FAILED: "bad",
    RunState.INTERRUPTED: "bad",
}


def head(status: RunStatus, model: str, sentence: str) -> str:
    """The top of the card: state, bar, figures and verdict. `model` is the base model's title,
    `sentence` the verdict."""
    parts = [_title(status, model), _bar(status), _figures(status)]
    if sentence:
        parts.append(f'<p class="verdict">{html.escape(sentence)}</p>')
    if status.message:
        kind = "error" if _kind(status.state) == "bad" else "note"
        parts.append(f'<p class="{kind}">{html.escape(status.message)}</p>')
    parts += [f'<p class="note">{html.escape(note)}</p>' for note in _notes(status)]
    return "".join(parts) + _log(status)


def curves(status: RunStatus) -> str:
    """The chart over the whole run."""
    train: Points = [(p.step, p.loss) for p in status.progress if p.loss is not None]
    validation: Points = [
        (p.step, p.validation_loss) for p in status.progress if p.validation_loss is not None
    ]
    best = status.best_step if status.best_step else None  # at step 0 there is no best yet
    return loss_chart(train, validation, status.steps, best)


def link(run_id: str, active: bool) -> str:
    """The line below a run: it continues without the page."""
    begin = "You can close this tab. Come back with" if active else "Come back to this run with"
    return (
        f'<p>{begin} <a href="?run={run_id}">this link</a>; anyone who has it can view and '
        "control the run.</p>"
    )


def progress_line(status: RunStatus) -> str:
    """ "step 120/400, 1.9 s/step, 8m40s left" """
    if status.state is RunState.QUEUED:
        return _queue_line(status)
    words = [f"step {status.step:,}/{status.steps:,}"]
    if status.state.is_active:
        if status.seconds_per_step:
            words.append(rate(status.seconds_per_step))
        if status.seconds_left is not None:
            words.append(f"{duration(status.seconds_left)} left")
    return ", ".join(words)


def spoken(status: RunStatus) -> str:
    """For screen readers: changes with the state and every ten percent."""
    words = pill(status.state)
    if status.state is RunState.QUEUED:
        return f"{words}, {_queue_line(status)}"
    if status.state.is_ended:
        return f"{words}. {status.message or ''}".strip()
    tenths = 10 * status.step // max(status.steps, 1)
    return f"Training, {tenths * 10} percent done"


def pill(state: RunState) -> str:
    """The word for a state."""
    return "Waiting" if state is RunState.QUEUED else state.capitalize()


def _kind(state: RunState) -> str:
    return _KINDS.get(state) or _KINDS[state.phase]


def _title(status: RunStatus, model: str) -> str:
    kind = _kind(status.state)
    return (
        f'<div class="run-title"><span class="pill {kind}">{pill(status.state)}</span>'
        f"<h3>{html.escape(model)} <small>{html.escape(status.preset)}</small></h3>"
        f'<span class="line">{progress_line(status)}</span></div>'
    )


def _bar(status: RunStatus) -> str:
    done = min(1.0, status.step / max(status.steps, 1))
    return (
        f'<div class="bar" role="progressbar" aria-label="Run progress" aria-valuemin="0" '
        f'aria-valuemax="{status.steps}" aria-valuenow="{status.step}">'
        f'<i style="width:{100 * done:.1f}%"></i></div>'
    )


def _queue_line(status: RunStatus) -> str:
    words = f"number {status.place} in the queue" if status.place else "in the queue"
    return words + (f", {about(status.wait_seconds)}" if status.wait_seconds else "")


def _figures(status: RunStatus) -> str:
    """Perplexity, losses and tokens as a row of small figures."""
    figures = list(_measured(status))
    if not figures:
        return ""
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd><dd class='from'>{aside}</dd></div>"
        for name, value, aside in figures
    )
    return f'<dl class="figures">{cells}</dl>{_how_measured(status)}'


def _how_measured(status: RunStatus) -> str:
    """`evaluate` and `score` give the same value where they read a text in the same way."""
    if not status.measure or status.base_loss is None:
        return ""
    tokens = f"{status.validation_tokens:,} held-out tokens"
    return f'<p class="hint">Validation: {tokens}, {html.escape(status.measure)}.</p>'


def _measured(status: RunStatus) -> Iterator[tuple[str, str, str]]:
    measured = [p for p in status.progress if p.validation_loss is not None]
    if measured:
        now = measured[-1].validation_loss
        before = status.base_loss
        aside = f"from {before:.2f}" if before is not None and measured[-1].step else ""
        yield "Validation loss", f"{now:.2f}", aside
        aside = f"from {_perplexity(before)}" if aside else ""
        yield "Perplexity", _perplexity(now), aside
    if trained := _last_loss(status.progress):
        yield "Training loss", f"{trained:.2f}", ""
    if status.train_tokens:
        yield "Text", f"{status.train_tokens:,}", "tokens"


def _perplexity(loss: float) -> str:
    value = math.exp(min(loss, 50))
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _last_loss(progress: tuple[Progress, ...]) -> float | None:
    return next((p.loss for p in reversed(progress) if p.loss is not None), None)


def _notes(status: RunStatus) -> Iterator[str]:
    yield from status.notes
    yield from dict.fromkeys(p.message for p in status.progress if p.message)


def _log(status: RunStatus) -> str:
    if not status.log_tail:
        return ""
    text = html.escape(status.log_tail)
    return f"<details><summary>End of the log</summary><pre>{text}</pre></details>"
