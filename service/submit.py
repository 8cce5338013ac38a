"""From a visitor's order to a run folder that waits for its turn."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from gpt2.folder import read_config
from gpt2.hub.resolve import resolve
from gpt2.tokenizer import load_tokenizer
from service import ipc
from service.plan import estimate
from service.request import Limits, RunOrder
from service.text_summary import describe_text
from train.job import Request, write_run
from train.run_folder import RunFolder


def take_in(
    order: RunOrder,
    aside: Path,
    final: Path,
    owner: str,
    limits: Limits,
    refuse_disk: Callable[[int], None],
) -> None:
    """Write the run folder of `order` at `aside`, to be renamed to `final`: tokens, config, order.
    The text itself is gone afterwards, the upload too. On an error nothing is left but the upload.

    `refuse_disk` is asked whether there is room for so many bytes before any is written.
    """
    base = resolve(order.model)
    source = order.text if order.file is None else order.file
    window = read_config(base).n_positions
    card = describe_text(source, load_tokenizer(base), window, order.column, limits)
    plan = estimate(order, limits, card.tokens)
    refuse_disk(plan.disk_bytes)
    try:
        _write_tokens(order, aside, base, tuple(asdict(plan.config).items()))
        _keep_base(aside, final, base)
        ipc.write(
            aside,
            ipc.ORDER,
            owner=owner,
            created=time.time(),
            model=order.name or order.model,
            preset=order.preset,
            encoding=card.encoding,
            notes=[note for note in (card.warning, plan.note) if note],
            seconds=plan.seconds,
            overhead=plan.overhead,
            disk_bytes=plan.disk_bytes,
            validation_tokens=plan.validation_tokens,
            run_seconds=limits.run_seconds,
        )
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if order.file is not None:
        order.file.unlink(missing_ok=True)


def _write_tokens(order: RunOrder, aside: Path, base: Path, changes: tuple) -> None:
    pasted = aside.with_name(f"{aside.name}.txt")
    try:
        if order.file is None:
            # With errors="replace" half a surrogate pair, which pages do send, ends nothing.
            pasted.write_text(order.text, encoding="utf-8", errors="replace")
        files = (order.file or pasted,)
        write_run(Request(files, aside, str(base), None, order.column, changes))
    finally:
        pasted.unlink(missing_ok=True)


def _keep_base(aside: Path, final: Path, base: Path) -> None:
    """A base model that is another run's may be discarded before this run ends: keep it."""
    if final.parent not in base.absolute().parents:
        return
    (aside / "base").mkdir()
    for path in base.iterdir():
        if path.is_file():
            try:
                os.link(path, aside / "base" / path.name)  # costs no room
            except OSError:
                shutil.copy2(path, aside / "base" / path.name)
    run = RunFolder(aside)
    run.describe(run.description() | {"base": str(final / "base")})
