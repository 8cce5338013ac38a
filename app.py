"""The web page: puts the tabs together and launches. python app.py [--model NAME] [--port P]"""

from __future__ import annotations

import argparse
import os
import sys

# Before gradio is imported: nothing about visitors leaves this machine.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
from starlette.middleware import Middleware

from gpt2.errors import UserError
from ui.api import add_api
from ui.limits import BodyLimit
from ui.models import Loaded, Models
from ui.picker import add_picker
from ui.theme import SCRIPT, STYLE, make_theme
from ui.write import add_write_tab

TABS = {"Write": add_write_tab}
QUEUE_SIZE = 40


def build_page(models: Models, start: Loaded) -> gr.Blocks:
    """The whole page. `start` is the model it begins with."""
    with gr.Blocks(title="GPT-2", analytics_enabled=False, delete_cache=(3600, 86_400)) as page:
        picker = add_picker(models, start)
        with gr.Tabs():
            for title, add_tab in TABS.items():
                with gr.Tab(title):
                    add_tab(models, picker, start)
        add_api(models, start.choice.name)
    return page.queue(api_open=False, max_size=QUEUE_SIZE)


def launch_settings() -> dict:
    """Arguments of `launch`: a private page that shows errors only where they are the visitor's."""
    return {
        "theme": make_theme(),
        "css_paths": STYLE,
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
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    models = Models(options.model)
    try:
        start = models.start()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    page = build_page(models, start)
    page.launch(server_name=options.host, server_port=options.port, **launch_settings())
    return 0


if __name__ == "__main__":
    sys.exit(main())
