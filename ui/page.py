"""The page: the head and the tabs in one place, and how it is launched."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route

from service.limits import Limits
from service.no_runs import NoRuns
from service.runs import Runs
from ui.api import add_api
from ui.context import PageContext
from ui.finetune.tab import add_finetune_tab
from ui.front_door import NOTEBOOKS, FrontDoor
from ui.generation import AT_ONCE
from ui.hardening import SESSIONS, Page, explain_request, harden
from ui.link_preview import LinkPreview
from ui.models import Loaded, Models
from ui.picker import ABOUT, Picker
from ui.theme import SCRIPT, STYLESHEETS, make_theme
from ui.visitor import build_visitor
from ui.write.tab import add_write_tab

TABS = {"Write": add_write_tab, "Fine-tune": add_finetune_tab}


def build_page(models: Models, start: Loaded, runs: Runs | NoRuns, limits: Limits) -> gr.Blocks:
    """The whole page. `start` is the model it starts with; `limits` are those of `runs`."""
    harden()
    with Page(title="GPT-2", analytics_enabled=False, delete_cache=(3600, 86_400)) as page:
        visitor = build_visitor()
        picker = Picker(models, start, visitor)
        picker.wire()
        with gr.Tabs() as tabs:
            context = PageContext(models, runs, limits, start, picker, visitor, tabs, page)
            for title, add_tab in TABS.items():
                with gr.Tab(title, id=title.lower()):
                    add_tab(context)
        add_api(context)
    return page.queue(api_open=False, max_size=None)


def launch_settings(
    hosts: frozenset[str] | None = None, routes: Sequence[Route] = (), share: bool = False
) -> dict:
    """Arguments for `launch`: nothing is monitored, and no internal error is shown. `hosts` are the
    names that it answers to; None: any. `routes` come beside gradio's. `share`: through gradio's
    tunnel, at an address that everybody can reach, and in notebooks."""
    return {
        "theme": make_theme(),
        "css_paths": STYLESHEETS,
        "js": SCRIPT.read_text(encoding="utf-8"),
        "footer_links": ["api"],
        "app_kwargs": {
            "middleware": [
                # The page's HTML is a tenth when compressed; streams of events stay plain.
                Middleware(GZipMiddleware, minimum_size=2000),
                Middleware(FrontDoor, hosts=hosts, frames=NOTEBOOKS if share else ()),
                Middleware(LinkPreview, title="GPT-2, written from scratch", about=ABOUT),
            ],
            "routes": [*routes],
            "exception_handlers": {RequestValidationError: explain_request},
        },
        "max_file_size": "20mb",
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "show_error": False,
        "share": share,
        "state_session_capacity": SESSIONS,
        # A text that is being written holds a thread, which sleeps; others must find one too.
        "max_threads": AT_ONCE + 40,
    }
