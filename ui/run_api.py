"""The public endpoints for runs: the Fine-tune tab for programs. Who has a run's id may do with it
what the page can; a run that was started here belongs to no browser, so nobody lists it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

import gradio as gr

from gpt2.errors import UserError
from service.request import RunOrder
from service.runs import new_owner
from service.status import RunStatus
from service.verdict import verdict
from ui.api import BROKEN
from ui.context import Site
from ui.finetune.downloads import make_download
from ui.finetune.upload import take_upload
from ui.visitor import as_id

T = TypeVar("T")
log = logging.getLogger(__name__)


def add_run_api(site: Site) -> None:
    """Declare the endpoints inside the open `gr.Blocks`."""
    models, runs = site.models, site.runs

    def start_run(
        text: str = "",
        file: dict | None = None,
        model: str = site.start.choice.name,
        preset: str = "taste",
        settings: dict | None = None,
        column: str = "",
        owner: str = "",
    ) -> str:
        """Fine-tune `model` on `text` or on an uploaded `file`; returns the run's id. `settings`
        are fields of the training configuration, such as {"steps": 100}. The id is the only key
        to the run: keep it. Runs of one `owner`, 32 hex digits of your own, wait for each other."""

        def start() -> str:
            upload = take_upload(_path_of(file), site.limits) if file else None
            try:
                choice = models.find(model)
                if not models.is_here(choice):
                    raise UserError(f"{choice.title} is not on this machine yet.")
                order = RunOrder(
                    choice.source,
                    text=None if upload and text == "" else text,
                    file=upload.path if upload else None,
                    preset=preset,
                    column=None if column == "" else column,
                    changes=parse_settings(settings),
                    name=choice.title if choice.is_run else choice.name,
                )
                return runs.create(order, parse_owner(owner))
            finally:
                if upload:
                    upload.remove()

        return answer(start)

    def run_status(run: str) -> dict:
        """How a run is getting on: its state, step, losses, samples, checkpoints, verdict."""
        return answer(lambda: as_json(runs.status(run)))

    def stop_run(run: str, keep: str = "best") -> dict:
        """Ask a run to stop and to keep its "best" or its "latest" state; its status."""

        def stop() -> dict:
            runs.stop(run, keep)
            return as_json(runs.status(run))

        return answer(stop)

    def download_run(run: str, step: int = -1) -> dict:
        """A zip of the run's model folder, or of the checkpoint at `step`."""

        def download() -> dict:
            path = make_download(runs, run, None if type(step) is int and step == -1 else step)
            return gr.FileData(path=str(path), orig_name=path.name).model_dump()

        return answer(download)

    gr.api(start_run, api_name="start_run", concurrency_id="start-run", concurrency_limit=2)
    gr.api(run_status, api_name="run_status", concurrency_limit=4)
    gr.api(stop_run, api_name="stop_run", concurrency_limit=2)
    gr.api(download_run, api_name="download_run", concurrency_id="download", concurrency_limit=1)


def answer(action: Callable[[], T]) -> T:
    """What the action returns; what goes wrong, as a message that the caller may see."""
    try:
        return action()
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from None
    except Exception:
        log.exception("a call for a run failed")
        raise gr.Error(BROKEN, print_exception=False) from None


def as_json(status: RunStatus) -> dict:
    """Plain values: a `RunStatus` as a dictionary, and the verdict in words."""
    return asdict(status) | {"verdict": verdict(status)}


def parse_settings(settings: object) -> tuple[tuple[str, object], ...]:
    """The changes of an order, which judges their names and values."""
    if settings is None:
        return ()
    if type(settings) is not dict:
        raise UserError('settings must be an object of names and values, such as {"steps": 100}.')
    return tuple(settings.items())


def parse_owner(owner: object) -> str:
    if owner == "":
        return new_owner()
    if found := as_id(owner):
        return found
    raise UserError("owner must be 32 hex digits: 128 random bits that you keep to yourself.")


def _path_of(file: object) -> object:
    """Of an uploaded file as clients send it."""
    return file.get("path") if type(file) is dict else file
