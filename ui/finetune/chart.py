"""The loss curves of a run as a drawing: pure functions from numbers to HTML.

The lines are an SVG that stretches with the page; the words are HTML laid over it. So text keeps
its size on a phone, strokes keep their width, and the theme's colors work in dark mode.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

MAX_CHART_POINTS = 400
Points = Sequence[tuple[int, float]]  # (step, loss), steps ascending


@dataclass(frozen=True)
class _Scale:
    """Maps data to the drawing's 1000 x 1000 square; the loss grows upward."""

    steps: int
    ticks: list[float]  # of the loss, from the lowest to the highest

    def x(self, step: float) -> float:
        return round(1000 * step / self.steps, 1)

    def y(self, loss: float) -> float:
        return round(1000 * (self.ticks[-1] - loss) / (self.ticks[-1] - self.ticks[0]), 1)

    def path(self, points: Points) -> str:
        return "M" + "L".join(f"{self.x(step)} {self.y(loss)}" for step, loss in points)


def loss_chart(train: Points, validation: Points, steps: int, best: int | None = None) -> str:
    """Training and validation loss over all the `steps` of the run; `best` is the step with the
    lowest validation loss. A line of text if there is nothing to draw yet."""
    train, validation = thin_curve(train), thin_curve(validation)
    if not train and not validation:
        return '<p class="hint">The curve starts with the first measurement.</p>'
    scale = _make_scale(train, validation, steps)
    drawing = _grid(scale) + _curves(scale, train, validation, best)
    return (
        f'<figure class="chart" role="img" aria-label="{_in_words(train, validation)}">'
        f"{_legend(best is not None)}"
        f'<div class="plot"><svg viewBox="0 0 1000 1000" preserveAspectRatio="none" '
        f'aria-hidden="true">{drawing}</svg>{_labels(scale)}</div>'
        '<p class="axis">Step</p></figure>'
    )


def thin_curve(points: Points, most: int = MAX_CHART_POINTS) -> list[tuple[int, float]]:
    """At most `most` points: the first and the last as they are, and between them the means of
    equal stretches. Values that are not finite are left out."""
    points = [point for point in points if math.isfinite(point[1])]
    if len(points) <= most:
        return points
    inner, stretches = points[1:-1], most - 2
    edges = [round(index * len(inner) / stretches) for index in range(stretches + 1)]
    middle = [_mean(inner[start:end]) for start, end in itertools.pairwise(edges)]
    return [points[0], *middle, points[-1]]


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that enclose low ... high, in steps of 1, 2 or 5 times a power of ten."""
    span = max(high - low, 1e-3)
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]


def _mean(points: Points) -> tuple[int, float]:
    steps, losses = zip(*points)
    return round(sum(steps) / len(steps)), sum(losses) / len(losses)


def _make_scale(train: Points, validation: Points, steps: int) -> _Scale:
    points = [*train, *validation]
    losses = [loss for _, loss in points]
    ticks = nice_ticks(min(losses), max(losses))
    return _Scale(max(steps, 1, *(step for step, _ in points)), ticks)


def _grid(scale: _Scale) -> str:
    lines = (f"M0 {scale.y(tick)}H1000" for tick in scale.ticks)
    return f'<path class="grid" d="{"".join(lines)}"/>'


def _curves(scale: _Scale, train: Points, validation: Points, best: int | None) -> str:
    parts = []
    if train:
        parts.append(f'<path class="train" d="{scale.path(train)}"/>')
    if validation:
        parts.append(f'<path class="valid" d="{scale.path(validation)}"/>')
        # A zero-length line with round ends is a dot that stays round however the plot stretches.
        dots = "".join(f"M{scale.x(step)} {scale.y(loss)}h0" for step, loss in validation)
        parts.append(f'<path class="dots" d="{dots}"/>')
    for step, loss in validation:
        if step == best:
            dot = f'd="M{scale.x(step)} {scale.y(loss)}h0"'
            parts.append(f'<path class="best" {dot}/><path class="best-hole" {dot}/>')
            parts.append(f'<path class="dots" {dot}/>')
    return "".join(parts)


def _labels(scale: _Scale) -> str:
    words = []
    for tick in scale.ticks:
        words.append(f'<span class="y" style="top:{scale.y(tick) / 10:.4g}%">{tick:g}</span>')
    for tick in nice_ticks(0, scale.steps):
        if tick <= scale.steps and tick == int(tick):
            left = scale.x(tick) / 10
            words.append(f'<span class="x" style="left:{left:.4g}%">{int(tick):,}</span>')
    return "".join(words)


def _legend(best: bool) -> str:
    keys = [("train", "Training"), ("valid", "Validation")] + [("best", "Best")] * best
    marks = "".join(f'<span class="{key}"><i></i>{words}</span>' for key, words in keys)
    return f'<figcaption><b>Loss</b><span class="unit">nats per token</span>{marks}</figcaption>'


def _in_words(train: Points, validation: Points) -> str:
    parts = []
    for name, points in (("Training", train), ("Validation", validation)):
        if points:
            (first, before), (last, now) = points[0], points[-1]
            parts.append(f"{name} loss {before:.2f} at step {first:,}, {now:.2f} at step {last:,}.")
    return html.escape(" ".join(parts))
