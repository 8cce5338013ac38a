"""`GET /health`: how the server is, for whoever keeps it running. No ids, nothing of visitors."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import gpt2
from gpt2.system import resident_bytes
from gpt2.temporary import temp_root
from service.no_runs import NoRuns
from service.runs import Runs

_BEGUN = time.monotonic()


@dataclass(frozen=True)
class Health:
    """Whoever gets this may be anybody; it is read from memory, so it may be asked for often."""

    model: str  # the one that the page starts with
    queue: int  # events that wait for their turn
    runs: dict[str, int]  # by what they do: `Runs.counts`
    memory_bytes: int | None  # resident; None where the system does not say
    disk_free_bytes: int | None  # of the disk of the runs; None if it cannot be read
    disk_used_bytes: int | None
    version: str
    uptime_seconds: float
    status: str = "ok"


def take_health(page: gr.Blocks, runs: Runs | NoRuns, model: str) -> Health:
    free, used = _disk(runs.folder)
    return Health(
        model=model,
        queue=len(page._queue),
        runs=runs.counts(),
        memory_bytes=resident_bytes(),
        disk_free_bytes=free,
        disk_used_bytes=used,
        version=gpt2.__version__,
        uptime_seconds=round(time.monotonic() - _BEGUN, 1),
    )


def health_route(page: gr.Blocks, runs: Runs | NoRuns, model: str) -> Route:
    async def health(request: Request) -> JSONResponse:
        now = take_health(page, runs, model)
        return JSONResponse(asdict(now), headers={"Cache-Control": "no-store"})

    return Route("/health", health, methods=["GET"])


def _disk(folder: Path | None) -> tuple[int | None, int | None]:
    try:
        usage = shutil.disk_usage(folder or temp_root())
    except OSError:
        return None, None
    return usage.free, usage.used
