"""The Fine-tune tab: its parts put together.

The page only looks: a run lives in its own process, and every handler begins with the ids that the
browser keeps.
"""

from __future__ import annotations

import gradio as gr

from ui.context import LIGHT, Site
from ui.finetune.actions import SHOW_RUN, RunActions
from ui.finetune.form import build_desk
from ui.finetune.panel import build_sheet
from ui.finetune.results import RunResults
from ui.finetune.start import Tuner
from ui.finetune.updates import RunView


def add_finetune_tab(site: Site) -> None:
    """Build and wire the tab inside the open `gr.Tab`."""
    with gr.Row(elem_id="tune", elem_classes="spread", equal_height=False):
        desk, sheet = build_desk(site.limits), build_sheet()
    announcer = gr.HTML("", elem_id="tune-announcer", elem_classes="heard")
    timer = gr.Timer(1.0, active=False)
    view = RunView(site, sheet, desk.mine, timer, announcer)
    tuner = Tuner(site, desk, view)
    _wire_text(tuner)
    _wire_start(tuner)
    RunActions(site, desk, view).wire()
    RunResults(site, view).wire()
    timer.tick(view.look, view.inputs, view.outputs, **LIGHT)


def _wire_text(tuner: Tuner) -> None:
    desk, site = tuner.desk, tuner.site
    fields = list(desk.fields.values())
    source = [tuner.upload, desk.text, desk.column, site.picker.model]
    shown = [desk.card, desk.feasible, desk.clear, tuner.card]
    places = [tuner.upload, desk.text, desk.column]
    planning = {
        "inputs": [tuner.card, site.picker.model, desk.preset, *fields],
        "outputs": [desk.preset, desk.feasible, *fields],
        "concurrency_id": "plan",
        "concurrency_limit": 2,
        "show_progress": "hidden",
        "api_visibility": "private",
        "trigger_mode": "always_last",
    }

    def describe_and_plan(trigger) -> None:
        described = trigger(tuner.describe, source, shown, trigger_mode="always_last", **LIGHT)
        described.then(tuner.plan, **planning)

    for trigger in (desk.text.change, desk.column.input, site.picker.chosen.change):
        describe_and_plan(trigger)
    before = [tuner.upload, site.picker.model]
    for trigger, handler, inputs in (
        (desk.upload.upload, tuner.take_file, [desk.upload, *before]),
        (desk.sample.click, tuner.use_sample, before),
        (desk.clear.click, tuner.clear, before),
        (desk.forget_surely.click, tuner.clear, before),
    ):
        trigger(handler, inputs, [*places, *shown], **LIGHT).then(tuner.plan, **planning)
    desk.preset.input(tuner.plan, **planning)
    for control in fields:
        event = control.input if isinstance(control, gr.Dropdown) else control.blur
        event(tuner.plan, **planning)


def _wire_start(tuner: Tuner) -> None:
    desk, view, site = tuner.desk, tuner.view, tuner.site
    places = [tuner.upload, desk.text, desk.column]
    source = [site.visitor, *places, site.picker.model, desk.preset]
    started = desk.start.click(
        tuner.start,
        [*source, *desk.fields.values()],
        [
            *[desk.start, desk.status, view.announcer, site.visitor, view.timer],
            *[*places, desk.card, desk.feasible, desk.clear, tuner.card],
        ],
        concurrency_id="start-run",
        concurrency_limit=2,
        show_progress="hidden",
        api_visibility="private",
    )
    shown = started.then(view.look, view.inputs, view.outputs, **LIGHT)
    shown.then(None, [site.visitor], None, js=SHOW_RUN, api_visibility="private")
