"""The form of the Fine-tune tab: what its controls do, from text to run."""

from __future__ import annotations

import html
from collections.abc import Iterator

import gradio as gr
from gradio.events import Dependency as Event

from gpt2.errors import UserError
from gpt2.machine import machine_memory
from gpt2.text import EncodingUnclear
from service.limits import Limits
from service.plan import Plan, plan_runs
from service.request import EFFORTS, RunRequest, parse_changes
from service.text_summary import PreparedText
from service.zero_gpu import CARD_FACTOR, SLICE_REST, SLICE_SECONDS, is_zero_gpu, slices_of
from ui.client import client_of
from ui.context import LIGHT, SHOW_RUN, PageContext
from ui.finetune.controls import changes_of, show_values
from ui.finetune.form import Form, file_hint, preset_rows
from ui.finetune.updates import RunView
from ui.finetune.upload import (
    SAMPLE,
    Upload,
    describe_pasted,
    prepare_upload,
    show_card,
    take_upload,
)
from ui.messages import guard, paragraph
from ui.models import describe_machine
from ui.visitor import Visitor
from ui.words import about, size


def _refuse_text(words: str, handlers: FineTuneForm, *inputs: object) -> dict:
    form = handlers.form
    return {form.card: paragraph(words, "error"), form.feasible: "", handlers.prepared: None}


def _refuse_file(words: str, handlers: FineTuneForm, *inputs: object) -> dict:
    shown = {handlers.upload: None, **handlers.show_source(None)}
    return shown | _refuse_text(words, handlers)


def _refuse_plan(words: str, handlers: FineTuneForm, *inputs: object) -> dict:
    return {handlers.form.feasible: paragraph(words, "error")}


def _refuse_start(words: str, handlers: FineTuneForm, *inputs: object) -> dict:
    return {handlers.form.start: gr.Button(interactive=True)} | handlers.say(words, "error")


class FineTuneForm:
    """The handlers of the form. They return updates by component; the others stay as they are."""

    def __init__(self, context: PageContext, form: Form, view: RunView) -> None:
        self.context = context
        self.form = form
        self.view = view
        # The file waiting for its run; deleted with the session if there is none.
        self.upload = gr.State(None, time_to_live=3600, delete_callback=_remove)
        self.prepared = gr.State(None, time_to_live=3600)  # the text as it is now

    # ---- the text

    @guard("reading an upload", _refuse_file)
    def take_file(self, path: object, before: Upload | None, model: object) -> dict:
        _remove(before)
        upload = take_upload(path, self.context.limits)
        return (
            self.show_source(upload)
            | self.describe(upload, None, _first_column(upload), "", model)
            | {self.upload: upload}
        )

    def use_sample(self, before: Upload | None, model: object) -> dict:
        return self._replace(before, SAMPLE.read_text(encoding="utf-8"), model)

    def clear(self, before: Upload | None, model: object) -> dict:
        return self._replace(before, "", model)

    def _replace(self, before: Upload | None, text: str, model: object) -> dict:
        _remove(before)
        shown = self.show_source(None, text) | self.describe(None, text, None, "", model)
        return shown | {self.upload: None}

    def show_source(self, upload: Upload | None, text: str | None = None) -> dict:
        """An upload replaces the text box; a table asks for its column."""
        columns = upload.columns if upload else ()
        words = {} if text is None else {"value": text}
        return {
            self.form.text: gr.Textbox(visible=upload is None, **words),
            self.form.column: gr.Dropdown(
                choices=list(columns), value=_first_column(upload), visible=bool(columns)
            ),
            self.form.encoding: gr.Dropdown(value="", visible=False),
        }

    def describe(
        self,
        upload: Upload | None,
        text: object,
        column: object,
        encoding: object,
        model: object,
    ) -> dict:
        """Describe the text at once."""
        there = upload is not None or (type(text) is str and bool(text.strip()))
        clear = {self.form.clear: gr.Button(visible=there)}
        if not there and not (upload is None and text):
            shown = {self.form.card: file_hint(self.context.limits), self.form.feasible: ""}
            return clear | shown | {self.prepared: None}
        return clear | self._read(upload, text, column, encoding, model)

    @guard("reading a text", _refuse_text)
    def _read(
        self,
        upload: Upload | None,
        text: object,
        column: object,
        encoding: object,
        model: object,
    ) -> dict:
        models, limits = self.context.models, self.context.limits
        choice, loaded = models.find(model), models.load(model)
        if not upload:
            found = describe_pasted(text, choice, loaded, limits)
            return {self.form.card: show_card(found.summary, "Pasted text"), self.prepared: found}
        asks = {self.form.encoding: gr.Dropdown(visible=True)}
        try:
            found = prepare_upload(upload, column, encoding, choice, loaded, limits)
        except EncodingUnclear as error:
            return _refuse_text(str(error), self) | asks
        shown = {self.form.card: show_card(found.summary, upload.name), self.prepared: found}
        return shown | (asks if found.summary.encoding not in ("utf-8", "utf-8-sig") else {})

    # ---- the plan

    @guard("planning a run", _refuse_plan)
    def plan(
        self, found: PreparedText | None, model: object, preset: object, *fields: object
    ) -> Iterator[dict]:
        """What the run would cost with each preset; the first time, a step is measured."""
        if found is None:
            yield {self.form.feasible: ""}
            return
        yield {self.form.feasible: paragraph("Measuring a training step of this model", "busy")}
        plans = self._plans(found, model, fields)
        if preset not in plans:
            raise UserError(f"Choose one of: {', '.join(EFFORTS)}.")
        rows = preset_rows({name: plan.seconds for name, plan in plans.items()})
        yield {
            self.form.preset: gr.Radio(choices=rows),
            self.form.feasible: feasibility(plans[preset], self.context.limits),
            **show_values(self.form.fields, plans[preset].config),
        }

    def _plans(
        self, found: PreparedText, model: object, fields: tuple[object, ...]
    ) -> dict[str, Plan]:
        shape = self.context.models.load(model).model.config
        changes = dict(parse_changes(changes_of(fields)))
        return plan_runs(shape, changes, found.summary.tokens, self.context.limits)

    # ---- the start

    # Gradio passes the request, by position, to a function that asks for it in its own signature.

    def start(self, request: gr.Request, *inputs: object) -> Iterator[dict]:
        yield from self._start(client_of(request), *inputs)

    @guard("starting a run", _refuse_start)
    def _start(
        self,
        client: str,
        kept: object,
        upload: Upload | None,
        text: object,
        column: object,
        encoding: object,
        found: PreparedText | None,
        model: object,
        preset: object,
        *fields: object,
    ) -> Iterator[dict]:
        visitor = Visitor.parse(kept).known()
        yield self.say("Reading the text", "busy") | {self.form.start: gr.Button(interactive=False)}
        choice = self.context.models.require_here(model)
        request = RunRequest(
            choice.source,
            name=choice.run_name,
            text=None if upload else text,
            file=upload.path if upload else None,
            preset=preset,
            column=column or None if upload else None,
            encoding=encoding or None if upload else None,
            changes=changes_of(fields),
            prepared=found if upload else None,
        )
        run = self.context.runs.create(request, visitor.owner, client)
        gone = self._replace(upload, "", model) if upload else {}
        words = "The file has been read and deleted." if upload else "Started."
        yield (
            {self.form.start: gr.Button(interactive=True)}
            | gone
            | self.say(words)
            | {
                self.context.visitor: visitor.at(run).kept(),
                self.view.timer: gr.Timer(active=True),
            }
        )

    def say(self, words: str, kind: str = "hint") -> dict:
        said = paragraph(words, kind)
        return {self.form.status: said, self.view.announcer: said}

    # ---- wiring

    def wire(self) -> Event:
        """The event of a run's start, for what is to follow it."""
        self._wire_text()
        return self._wire_start()

    def _wire_text(self) -> None:
        form, context = self.form, self.context
        fields = list(form.fields.values())
        places = [self.upload, form.text, form.column, form.encoding]
        source = [*places, context.picker.model]
        shown = [form.card, form.feasible, form.clear, self.prepared]
        planning = {
            "inputs": [self.prepared, context.picker.model, form.preset, *fields],
            "outputs": [form.preset, form.feasible, *fields],
            "concurrency_id": "plan",
            "concurrency_limit": 2,
            "show_progress": "hidden",
            "api_visibility": "private",
            "trigger_mode": "always_last",
        }
        for trigger in (
            form.text.change,
            form.column.input,
            form.encoding.input,
            context.picker.chosen.change,
        ):
            described = trigger(
                self.describe, source, [*shown, form.encoding], trigger_mode="always_last", **LIGHT
            )
            described.then(self.plan, **planning)
        before = [self.upload, context.picker.model]
        for trigger, handler, inputs in (
            (form.upload.upload, self.take_file, [form.upload, *before]),
            (form.sample.click, self.use_sample, before),
            (form.clear.click, self.clear, before),
            (form.forget_surely.click, self.clear, before),
        ):
            trigger(handler, inputs, [*places, *shown], **LIGHT).then(self.plan, **planning)
        form.preset.input(self.plan, **planning)
        for control in fields:
            event = control.input if isinstance(control, gr.Dropdown) else control.blur
            event(self.plan, **planning)

    def _wire_start(self) -> Event:
        form, view, context = self.form, self.view, self.context
        places = [self.upload, form.text, form.column, form.encoding]
        asked = [context.visitor, *places, self.prepared, context.picker.model, form.preset]
        started = form.start.click(
            self.start,
            [*asked, *form.fields.values()],
            [
                *[form.start, form.status, view.announcer, context.visitor, view.timer],
                *[*places, form.card, form.feasible, form.clear, self.prepared],
            ],
            concurrency_id="start-run",
            concurrency_limit=2,
            show_progress="hidden",
            api_visibility="private",
        )
        shown = started.then(view.look, view.inputs, view.outputs, **LIGHT)
        return shown.then(None, [context.visitor], None, js=SHOW_RUN, api_visibility="private")


def feasibility(plan: Plan, limits: Limits) -> str:
    """ "About 40 s: 60 steps on CPU, 2 cores. Needs 400 MB of memory (of 16 GB) ..." """
    config = plan.config
    machine = html.escape(describe_machine(limits.device))
    words = (
        f"<b>{about(plan.seconds).capitalize()}</b>: {plan.steps:,} steps of "
        f"{config.batch_size} × {config.block_size} tokens on {machine}. "
        f"Needs {size(plan.memory_bytes)} of memory (of {size(machine_memory())}) and "
        f"{size(plan.disk_bytes)} of disk."
    )
    if is_zero_gpu():
        words += gpu_share(plan)
    if not limits.lasting:
        words += (
            " This Space keeps nothing when it is started again, which ends a run: download or "
            "publish what you want to keep; each checkpoint can be."
        )
    return f"<p>{words}</p>" + (paragraph(plan.note, "note") if plan.note else "")


def gpu_share(plan: Plan) -> str:
    """What a run takes of the visitor's time on a shared GPU."""
    slices = slices_of(plan.seconds)
    charged = CARD_FACTOR * (plan.seconds + slices * SLICE_REST)
    return (
        f" It is trained on a shared GPU in {slices} slice{'s' * (slices != 1)} of at most "
        f"{SLICE_SECONDS:.0f} s, each saved at its end, and takes up to {about(charged)} of your "
        "GPU time of today (2 minutes; 5 when you are signed in to Hugging Face; 40 with PRO). "
        "Keep this page open meanwhile. If the time runs out, come back by the run's link when "
        "there is more, and press Resume."
    )


def _first_column(upload: Upload | None) -> str | None:
    """The column that most likely has the text."""
    columns = upload.columns if upload else ()
    named = (name for name in columns if name.lower() in ("text", "content"))
    return next(named, columns[0] if columns else None)


def _remove(upload: Upload | None) -> None:
    if upload is not None:
        upload.remove()
