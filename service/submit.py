"""From a visitor's request to a run folder that waits in the queue."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gpt2.errors import UserError
from service import ipc
from service.limits import Limits
from service.plan import Plan, plan_runs
from service.request import RunRequest
from service.text_summary import TextSummary, open_text, prepare_text
from train.data import hold_out_tail, open_corpus
from train.job import begin_run, start_from_model
from train.run_folder import RunFolder

_BYTES_PER_BYTE = 4  # tokens take at most 4 bytes, and every byte of a text may be one


def create_run(
    request: RunRequest,
    aside: Path,
    final: Path,
    owner: str,
    limits: Limits,
    require_room: Callable[[int], None],
) -> None:
    """Write the run folder of `request` at `aside`, to be renamed to `final`: tokens, config, what
    was asked for. The base is opened once and the text is read once. Afterward, the text itself
    and the upload are gone. On an error, only the upload is left.

    `require_room` is called with the number of bytes needed, before any are written.
    """
    start, changes = start_from_model(request.model), dict(request.changes)
    try:
        run = RunFolder.create(aside)
        if request.tokens:
            summary = _take_tokens(request, run)
        else:
            text = open_text(request.source, request.column, limits, request.encoding)
            require_room(_BYTES_PER_BYTE * text.bytes)
            summary = prepare_text(text, start.tokenizer, start.shape.n_positions, run.tokens)
        plan = plan_runs(start.shape, changes, summary.tokens, limits)[request.preset]
        require_room(plan.disk_bytes)
        hold_out_tail(run.tokens, start.tokenizer, plan.config.validation_share)
        begin_run(run, start, plan.config, open_corpus(run.tokens, start.tokenizer))
        _keep_base(run, final, start.base)
        _describe(run, request, summary, plan, owner, limits)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if request.file is not None:
        request.file.unlink(missing_ok=True)


def _take_tokens(request: RunRequest, run: RunFolder) -> TextSummary:
    try:
        shutil.move(request.tokens, run.tokens)
    except OSError:
        raise UserError("The file is not there anymore. Upload it again.") from None
    return request.prepared.summary


def _describe(
    run: RunFolder,
    request: RunRequest,
    summary: TextSummary,
    plan: Plan,
    owner: str,
    limits: Limits,
) -> None:
    order = ipc.Order(
        owner=owner,
        created=time.time(),
        model=request.name or request.model,
        preset=request.preset,
        encoding=summary.encoding,
        notes=tuple(note for note in (*summary.notes, summary.warning, plan.note) if note),
        seconds=plan.seconds,
        overhead=plan.overhead,
        disk_bytes=plan.disk_bytes,
        validation_tokens=plan.validation_tokens,
        run_seconds=limits.run_seconds,
    )
    ipc.write(run.path, order)


def _keep_base(run: RunFolder, final: Path, base: Path) -> None:
    """Keep a base model that belongs to another run: it may be discarded before this run ends."""
    if final.parent not in base.absolute().parents:
        return
    (run.path / "base").mkdir()
    for path in base.iterdir():
        if path.is_file():
            try:
                os.link(path, run.path / "base" / path.name)  # takes no space
            except OSError:
                shutil.copy2(path, run.path / "base" / path.name)
    run.describe(replace(run.description(), base=str(final / "base")))
