"""The desk of the Fine-tune tab: what its controls do, from a text to a run."""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator

import gradio as gr

from gpt2.errors import UserError
from gpt2.machine import machine_memory
from service.plan import Estimate, estimate
from service.request import RunOrder
from service.text_summary import TextCard
from ui.api import BROKEN
from ui.context import Site
from ui.finetune.controls import given, show_values
from ui.finetune.form import PRESETS, Desk, file_hint, preset_rows
from ui.finetune.updates import RunView
from ui.finetune.upload import SAMPLE, Upload, card, show_card, take_upload
from ui.models import describe_machine
from ui.visitor import Visitor
from ui.words import about, size

log = logging.getLogger(__name__)


class Tuner:
    """The handlers of the desk. They return updates by component; what is absent stays."""

    def __init__(self, site: Site, desk: Desk, view: RunView) -> None:
        self.site = site
        self.desk = desk
        self.view = view
        # The file that waits for its run; deleted with the session if none comes.
        self.upload = gr.State(None, time_to_live=3600, delete_callback=_remove)
        self.card = gr.State(None, time_to_live=3600)  # of the text as it is now

    # ---- the text

    def take_file(self, path: object, before: Upload | None, model: object) -> dict:
        _remove(before)
        try:
            upload = take_upload(path, self.site.limits)
        except UserError as error:
            return {self.upload: None, **self._show_source(None), **self._refuse(error)}
        return (
            self._show_source(upload)
            | self.describe(upload, None, _first_column(upload), model)
            | {self.upload: upload}
        )

    def use_sample(self, before: Upload | None, model: object) -> dict:
        return self._replace(before, SAMPLE.read_text(encoding="utf-8"), model)

    def clear(self, before: Upload | None, model: object) -> dict:
        return self._replace(before, "", model)

    def _replace(self, before: Upload | None, text: str, model: object) -> dict:
        _remove(before)
        shown = self._show_source(None, text) | self.describe(None, text, None, model)
        return shown | {self.upload: None}

    def _show_source(self, upload: Upload | None, text: str | None = None) -> dict:
        """An upload takes the place of the text; a table asks for its column."""
        columns = upload.columns if upload else ()
        words = {} if text is None else {"value": text}
        return {
            self.desk.text: gr.Textbox(visible=upload is None, **words),
            self.desk.column: gr.Dropdown(
                choices=list(columns), value=_first_column(upload), visible=bool(columns)
            ),
        }

    def describe(self, upload: Upload | None, text: object, column: object, model: object) -> dict:
        """The text's card, at once."""
        there = upload is not None or (type(text) is str and bool(text.strip()))
        clear = {self.desk.clear: gr.Button(visible=there)}
        if not there and not (upload is None and text):
            shown = {self.desk.card: file_hint(self.site.limits), self.desk.feasible: ""}
            return clear | shown | {self.card: None}
        try:
            loaded = self.site.models.load(model)
            found = card(upload, text, column, loaded.tokenizer, loaded.window, self.site.limits)
        except UserError as error:
            return clear | self._refuse(error)
        name = upload.name if upload else "Pasted text"
        return clear | {self.desk.card: show_card(found, name), self.card: found}

    def _refuse(self, error: UserError) -> dict:
        words = f'<p class="error">{html.escape(str(error))}</p>'
        return {self.desk.card: words, self.desk.feasible: "", self.card: None}

    # ---- the plan

    def plan(
        self, found: TextCard | None, model: object, preset: object, *fields: object
    ) -> Iterator[dict]:
        """What the run would cost, for each preset; the first time a step is measured."""
        if found is None:
            yield {self.desk.feasible: ""}
            return
        yield {self.desk.feasible: '<p class="busy">Measuring a step of this model</p>'}
        try:
            plans = {name: self._estimate(found, model, name, fields) for name in PRESETS}
            if preset not in plans:
                raise UserError(f"Choose one of: {', '.join(PRESETS.values())}.")
        except UserError as error:
            yield {self.desk.feasible: f'<p class="error">{html.escape(str(error))}</p>'}
            return
        except Exception:
            log.exception("the plan failed")
            yield {self.desk.feasible: f'<p class="error">{BROKEN}</p>'}
            return
        rows = preset_rows({name: plan.seconds for name, plan in plans.items()})
        yield {
            self.desk.preset: gr.Radio(choices=rows),
            self.desk.feasible: feasibility(plans[preset]),
            **show_values(self.desk.fields, plans[preset].config),
        }

    def _estimate(
        self, found: TextCard, model: object, preset: str, fields: tuple[object, ...]
    ) -> Estimate:
        # The text itself is not needed to plan: its tokens are counted.
        choice = self.site.models.find(model)
        order = RunOrder(choice.source, text="planned", preset=preset, changes=given(fields))
        return estimate(order, self.site.limits, tokens=found.tokens)

    # ---- the start

    def start(
        self,
        kept: object,
        upload: Upload | None,
        text: object,
        column: object,
        model: object,
        preset: object,
        *fields: object,
    ) -> Iterator[dict]:
        visitor = Visitor.parse(kept).known()
        yield self._say("Reading the text", busy=True) | {
            self.desk.start: gr.Button(interactive=False)
        }
        ready = {self.desk.start: gr.Button(interactive=True)}
        try:
            choice = self.site.models.find(model)
            if not self.site.models.is_here(choice):
                raise UserError(f"{choice.title} is not on this machine yet. Pick it above first.")
            order = RunOrder(
                choice.source,
                name=choice.title if choice.is_run else choice.name,
                text=None if upload else text,
                file=upload.path if upload else None,
                preset=preset,
                column=column or None if upload else None,
                changes=given(fields),
            )
            run = self.site.runs.create(order, visitor.owner)
        except UserError as error:
            yield ready | self._say(str(error), error=True)
            return
        except Exception:
            log.exception("a run could not be started")
            yield ready | self._say(BROKEN, error=True)
            return
        gone = self._replace(upload, "", model) if upload else {}
        words = "The file has been read and deleted." if upload else "Started."
        yield (
            ready
            | gone
            | self._say(words)
            | {
                self.site.visitor: visitor.at(run).kept(),
                self.view.timer: gr.Timer(active=True),
            }
        )

    def _say(self, words: str, error: bool = False, busy: bool = False) -> dict:
        kind = "error" if error else "busy" if busy else "hint"
        line = f'<p class="{kind}">{html.escape(words)}</p>'
        return {self.desk.status: line, self.view.announcer: line}


def feasibility(plan: Estimate) -> str:
    """ "About 40 s: 60 steps on CPU, 2 cores. 0.4 of 16 GB memory, 63 MB of disk." """
    config = plan.config
    words = (
        f"<b>{about(plan.seconds).capitalize()}</b>: {plan.steps:,} steps of "
        f"{config.batch_size} × {config.block_size} tokens on {html.escape(describe_machine())}. "
        f"Needs {size(plan.memory_bytes)} of {size(machine_memory())} memory and "
        f"{size(plan.disk_bytes)} of disk."
    )
    note = f'<p class="note">{html.escape(plan.note)}</p>' if plan.note else ""
    return f"<p>{words}</p>{note}"


def _first_column(upload: Upload | None) -> str | None:
    """The one that is most likely the text."""
    columns = upload.columns if upload else ()
    named = (name for name in columns if name.lower() in ("text", "content"))
    return next(named, columns[0] if columns else None)


def _remove(upload: Upload | None) -> None:
    if upload is not None:
        upload.remove()
