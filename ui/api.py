"""The public endpoints: the two tabs for programs.

Whoever has a run's id can do with it what the page can. A run started here belongs to no browser,
so no visitor's list shows it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import asdict
from typing import NoReturn

import gradio as gr

from gpt2.errors import UserError
from gpt2.settings import TEXTS, Setting
from service.ids import new_id
from service.request import RunRequest
from service.status import RunStatus
from service.verdict import verdict
from ui.client import client_of
from ui.context import PageContext
from ui.finetune.upload import take_upload
from ui.generation import AT_ONCE, SETTINGS, WORKER, Reader, Step, parse_request, stream_step
from ui.messages import guard
from ui.visitor import as_id

_TYPES = {"int": int, "float": float, "str": str, "bool": bool, TEXTS: str | list[str]}
# A program that wants several texts makes several calls.
_GENERATE_SETTINGS = tuple(one for one in SETTINGS if one.name != "samples")


def add_api(context: PageContext) -> None:
    """Declare the endpoints inside the open `gr.Blocks`."""
    _add_generate(context)
    _add_runs(context)


def _refuse(words: str, *inputs: object) -> NoReturn:
    """A message that the caller may see."""
    raise gr.Error(words, print_exception=False)


def _add_generate(context: PageContext) -> None:
    models = context.models

    @guard("generating", _refuse)
    def generate(request, prompt, model, *values) -> Iterator[str]:
        """Continue `prompt`. Streams the continuation so far; the last value is complete. Without
        a prompt, that is a whole text."""
        settings = {one.name: value for one, value in zip(_GENERATE_SETTINGS, values)}
        wanted = parse_request(models, prompt, model, **settings)
        loaded = models.load(wanted.choice.name)
        reader = Reader.of(request)  # each call has a session of its own
        for step in stream_step(loaded, Step(wanted.prompt), wanted.sampling, reader):
            yield wanted.begun + step.texts[0]

    model = Setting("", name="model", kind="str", default=context.start.choice.name)
    _declare(generate, (model, *_GENERATE_SETTINGS))
    gr.api(generate, api_name="generate", concurrency_id=WORKER, concurrency_limit=AT_ONCE)


def _declare(endpoint, settings: tuple[Setting, ...]) -> None:
    """Give a function the arguments for gradio to document: the prompt and a list of settings."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter("request", kind, annotation=gr.Request),
        inspect.Parameter("prompt", kind, annotation=str),
    ]
    for one in settings:
        hint = _TYPES[one.kind]
        parameters.append(inspect.Parameter(one.name, kind, default=one.start, annotation=hint))
    endpoint.__signature__ = inspect.Signature(parameters, return_annotation=Iterator[str])
    endpoint.__annotations__ = {one.name: one.annotation for one in parameters} | {
        "return": Iterator[str]
    }


def _add_runs(context: PageContext) -> None:
    models, runs = context.models, context.runs

    @guard("starting a run", _refuse)
    def start_run(
        request: gr.Request,
        text: str = "",
        file: dict | None = None,
        model: str = context.start.choice.name,
        preset: str = "taste",
        settings: dict | None = None,
        column: str = "",
        owner: str = "",
        encoding: str = "",
    ) -> str:
        """Fine-tune `model` on `text` or on an uploaded `file`; returns the run's id. `settings`
        are fields of the training configuration, such as {"steps": 100}; `column` is for tables,
        `encoding` for files whose encoding is not detected. The id is the only key to the run, so
        keep it. Runs with the same `owner`, 32 hex digits that you choose, wait for each other."""
        upload = take_upload(_path_of(file), context.limits) if file else None
        try:
            choice = models.require_here(model)
            wanted = RunRequest(
                choice.source,
                text=None if upload and text == "" else text,
                file=upload.path if upload else None,
                preset=preset,
                column=None if column == "" else column,
                encoding=None if encoding == "" else encoding,
                changes=settings_to_changes(settings),
                name=choice.run_name,
            )
            return runs.create(wanted, parse_owner(owner), client_of(request))
        finally:
            if upload:
                upload.remove()

    @guard("reading a run", _refuse)
    def run_status(run: str) -> dict:
        """The progress of a run: its state, step, losses, samples, checkpoints, verdict."""
        return as_json(runs.status(run))

    @guard("stopping a run", _refuse)
    def stop_run(run: str, keep: str = "best") -> dict:
        """Ask a run to stop and keep its "best" or its "latest" state; returns its status."""
        runs.stop(run, keep)
        return as_json(runs.status(run))

    @guard("making a download", _refuse)
    def download_run(run: str, step: int = -1) -> dict:
        """A zip of the run's model folder, or of the checkpoint at `step` (-1: the model)."""
        path = runs.zip_model(run, None if type(step) is int and step == -1 else step)
        return gr.FileData(path=str(path), orig_name=path.name).model_dump()

    gr.api(start_run, api_name="start_run", concurrency_id="start-run", concurrency_limit=2)
    # In lanes of their own: they are answered at once, whoever waits for whatever else.
    gr.api(run_status, api_name="run_status", concurrency_id="look", concurrency_limit=4)
    gr.api(stop_run, api_name="stop_run", concurrency_id="stop", concurrency_limit=2)
    gr.api(download_run, api_name="download_run", concurrency_id="download", concurrency_limit=1)


def as_json(status: RunStatus) -> dict:
    """A `RunStatus` as a dictionary of plain values, with the verdict in words."""
    values = asdict(status) | {"verdict": verdict(status), "state": status.state.value}
    values["memorisation"] = values.pop("memorization")  # the name that clients know
    return values


def settings_to_changes(settings: object) -> tuple[tuple[str, object], ...]:
    """The changes for a request, which checks their names and values."""
    if settings is None:
        return ()
    if type(settings) is not dict:
        raise UserError('settings must be an object of names and values, such as {"steps": 100}.')
    return tuple(settings.items())


def parse_owner(owner: object) -> str:
    if owner == "":
        return new_id()
    if found := as_id(owner):
        return found
    raise UserError("owner must be 32 hex digits: 128 random bits that you keep to yourself.")


def _path_of(file: object) -> object:
    """The path of an uploaded file, as clients send it."""
    return file.get("path") if type(file) is dict else file
