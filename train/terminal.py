"""A run on the terminal: a bar where someone watches, plain lines in a pipe, JSON where asked."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from statistics import median

from tqdm import tqdm

from train.compute import validation_measure
from train.distributed import World
from train.job import Job
from train.run_folder import Progress

_MOST_NOTES = 20


def show_run(progress: Iterator[Progress], job: Job, as_json: bool, world: World) -> None:
    """Consume a run and tell about it; ranks beside the main one are silent."""
    if not world.is_main:
        deque(progress, maxlen=0)
        return
    for line in _introduction(job):
        print(line, file=sys.stderr)
    if as_json:
        for item in progress:
            print(json.dumps(asdict(item) | {"perplexity": _perplexity(item)}), flush=True)
    elif sys.stderr.isatty():
        _bar(progress, job)
    else:
        _lines(progress, job)
    if not as_json:
        print(_closing(job))


def _introduction(job: Job) -> Iterator[str]:
    report = job.data.report
    yield from report.notes[:_MOST_NOTES]
    if len(report.notes) > _MOST_NOTES:
        yield f"and {len(report.notes) - _MOST_NOTES} more notes in {job.run.tokens}/report.json"
    yield (
        f"{report.documents} documents, {report.train_tokens:,} tokens to train on, "
        f"{report.validation_tokens:,} to validate; {job.model.parameter_count():,} parameters"
    )
    yield from job.notes


def _bar(progress: Iterator[Progress], job: Job) -> None:
    losses: dict[str, str] = {}
    with tqdm(total=job.config.steps, unit="step", smoothing=0.1, dynamic_ncols=True) as bar:
        for item in progress:
            bar.update(item.step - bar.n)
            for name, value in (("loss", item.loss), ("validation", item.validation_loss)):
                if value is not None:
                    losses[name] = f"{value:.3f}"
            bar.set_postfix(losses)
            if item.message:
                bar.write(f"step {item.step}: {item.message}", file=sys.stderr)
            _tell(item, lambda words: bar.write(words, file=sys.stderr))


def _lines(progress: Iterator[Progress], job: Job) -> None:
    every = max(1, job.config.steps // 100)
    speeds: deque[float] = deque(maxlen=20)
    for item in progress:
        if item.tokens_per_second:
            speeds.append(item.tokens_per_second)
        due = item.step % every == 0 or item.validation_loss is not None
        if due or item.message:
            left = _time_left(job, item.step, speeds)
            print(f"{_sentence(item)}{left}", flush=True)
        _tell(item, lambda words: print(words, file=sys.stderr, flush=True))


def _tell(item: Progress, write: Callable[[str], None]) -> None:
    """What was measured and what the model wrote, where it did."""
    if (perplexity := _perplexity(item)) is not None:
        write(f"step {item.step}: perplexity {perplexity:,.2f}")
    if item.sample is not None:
        # A model of characters may write what moves a terminal's cursor.
        plain = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in item.sample)
        write(f"step {item.step}, a sample:\n{textwrap.indent(plain.strip(), '    ')}")


def _perplexity(item: Progress) -> float | None:
    """Of the validation loss; None where there is none, or where it is no number to print."""
    loss = item.validation_loss
    return math.exp(loss) if loss is not None and loss < 700 else None


def _sentence(item: Progress) -> str:
    parts = [f"step {item.step}"]
    if item.message:
        parts.append(item.message)
    if item.loss is not None:
        parts.append(f"loss {item.loss:.4f}")
    if item.validation_loss is not None:
        parts.append(f"validation loss {item.validation_loss:.4f}")
    if item.tokens_per_second:
        parts.append(f"{item.tokens_per_second:,.0f} tok/s")
    return ", ".join(parts)


def _time_left(job: Job, step: int, speeds: deque[float]) -> str:
    if not speeds or step >= job.config.steps:
        return ""
    tokens = (job.config.steps - step) * job.config.batch_size * job.config.block_size
    minutes, seconds = divmod(round(tokens / median(speeds)), 60)
    return f", {minutes}m{seconds:02d}s left"


def _closing(job: Job) -> str:
    measured = [p for p in job.run.progress() if p.validation_loss is not None]
    if not measured:
        return f"The model is in {job.run.model}"
    best = min(measured, key=lambda p: p.validation_loss)
    measure = validation_measure(job.config, job.model.device)
    figures = job.data.validation_score(best.validation_loss, measure)
    return f"best at step {best.step}: validation {figures}. The model is in {job.run.model}"
