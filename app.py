"""The web page: puts the tabs together and launches. python app.py [--model NAME] [--port P]"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Before gradio is imported: nothing about visitors leaves this machine.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
from starlette.middleware import Middleware

from gpt2.errors import UserError
from service.request import Limits
from service.runs import Runs
from ui.api import add_api
from ui.body_limit import BodyLimit
from ui.context import Site
from ui.finetune.tab import add_finetune_tab
from ui.models import Loaded, Models
from ui.picker import add_picker
from ui.run_api import add_run_api
from ui.theme import SCRIPT, STYLES, make_theme
from ui.visitor import build_visitor
from ui.write.tab import add_write_tab

TABS = {"Write": add_write_tab, "Fine-tune": add_finetune_tab}
QUEUE_SIZE = 40


def build_page(models: Models, start: Loaded, runs: Runs, limits: Limits) -> gr.Blocks:
    """The whole page. `start` is the model it begins with, `limits` are those of `runs`."""
    with gr.Blocks(title="GPT-2", analytics_enabled=False, delete_cache=(3600, 86_400)) as page:
        visitor = build_visitor()
        picker = add_picker(models, start, visitor)
        with gr.Tabs() as tabs:
            site = Site(models, runs, limits, start, picker, visitor, tabs, page)
            for title, add_tab in TABS.items():
                with gr.Tab(title, id=title.lower()):
                    add_tab(site)
        add_api(models, start.choice.name)
        add_run_api(site)
    return page.queue(api_open=False, max_size=QUEUE_SIZE)


def launch_settings() -> dict:
    """Arguments of `launch`: a private page that shows errors only where they are the visitor's."""
    return {
        "theme": make_theme(),
        "css_paths": STYLES,
        "js": SCRIPT.read_text(encoding="utf-8"),
        "footer_links": ["api"],
        "app_kwargs": {"middleware": [Middleware(BodyLimit)]},
        "max_file_size": "20mb",
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "show_error": False,
        "share": False,
        "state_session_capacity": 1000,
    }


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python app.py", description="GPT-2 as a web page.")
    on_space = "SPACE_ID" in os.environ
    add = parser.add_argument
    add("--model", metavar="NAME", help="a model folder, 124M ... 1558M, user/repo or storyteller")
    add("--host", default="0.0.0.0" if on_space else "127.0.0.1", help="address to listen on")
    add("--port", type=int, help="port to listen on (default: 7860, or the next free one)")
    add(
        "--runs",
        type=Path,
        metavar="DIR",
        default=runs_folder(),
        help="where fine-tuning runs are kept (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def runs_folder() -> Path:
    """On a Space the persistent volume, where one is mounted; else a folder beside this file."""
    volume = Path("/data")
    if "SPACE_ID" in os.environ and os.path.ismount(volume):
        return volume / "runs"
    return Path(__file__).parent / "runs"


def main(arguments: list[str] | None = None) -> int:
    options, limits = parse_arguments(arguments), Limits()
    try:
        runs = Runs(options.runs, limits)
        models = Models(options.model, runs=runs)
        start = models.start()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    page = build_page(models, start, runs, limits)
    page.launch(server_name=options.host, server_port=options.port, **launch_settings())
    return 0


if __name__ == "__main__":
    sys.exit(main())
