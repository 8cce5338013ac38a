"""What every tab gets: the models, the runs, and the parts of the page that the tabs share."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from service.limits import Limits
from service.no_runs import NoRuns
from service.runs import Runs
from ui.models import Loaded, Models
from ui.picker import Picker


@dataclass(frozen=True)
class PageContext:
    models: Models
    runs: Runs | NoRuns
    limits: Limits  # those of `runs`
    start: Loaded  # the model that the page starts with
    picker: Picker
    visitor: gr.BrowserState  # `visitor.Visitor`, as the browser keeps it
    tabs: gr.Tabs
    page: gr.Blocks


# Handlers that only arrange the page run at once, outside the queue, without a spinner.
LIGHT = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# In the browser: put the run on the page into its address.
SHOW_RUN = "(kept) => showRun(kept)"
