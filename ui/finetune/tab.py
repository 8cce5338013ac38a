"""The Fine-tune tab: its parts put together.

The page only watches: a run lives in its own process, and every handler starts from the ids that
the browser keeps.
"""

from __future__ import annotations

import gradio as gr

from service.no_runs import NoRuns
from ui.context import PageContext
from ui.finetune.actions import RunActions
from ui.finetune.form import build_form
from ui.finetune.panel import build_run_panel
from ui.finetune.results import RunResults
from ui.finetune.start import FineTuneForm
from ui.finetune.updates import RunView
from ui.messages import paragraph


def add_finetune_tab(context: PageContext) -> None:
    """Build and wire the tab inside the open `gr.Tab`; where there can be no runs, why."""
    if isinstance(context.runs, NoRuns):
        gr.HTML(paragraph(context.runs.reason, "hint"), elem_id="no-runs")
        return
    with gr.Row(elem_id="tune", elem_classes="spread", equal_height=False):
        form, panel = build_form(context.limits), build_run_panel()
    announcer = gr.HTML("", elem_id="tune-announcer", elem_classes="heard")
    view = RunView(context, panel, form.mine, gr.Timer(1.0, active=False), announcer)
    started = FineTuneForm(context, form, view).wire()
    RunActions(context, form, view, started).wire()
    RunResults(context, view).wire()
    view.wire()
