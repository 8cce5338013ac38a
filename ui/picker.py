"""The head of the page: its name, what it runs on, and the choice of a model."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gradio as gr

from gpt2.errors import UserError
from ui.models import Loaded, Models, describe_machine
from ui.visitor import Visitor

TITLE = "GPT-2"
SUBTITLE = "written from scratch, running here"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picker:
    """The components that the tabs read or follow."""

    model: gr.Dropdown
    chosen: gr.State  # the name of the last model that loaded
    status: gr.HTML
    choose: Callable[..., Iterator[dict]]  # (name, previous, visitor): updates of all three


def add_picker(models: Models, start: Loaded, visitor: gr.BrowserState) -> Picker:
    """Build the head of the page inside the open `gr.Blocks`. It begins with `start`."""
    with gr.Row(elem_id="head", equal_height=False):
        with gr.Column(scale=3, min_width=300):
            gr.HTML(f"<h1>{TITLE} <small>{SUBTITLE}</small></h1>")
            status = gr.HTML(_ready(start), elem_id="machine")
        with gr.Column(scale=2, min_width=300):
            model = gr.Dropdown(
                choices=models.rows(),
                value=start.choice.name,
                label="Model",
                info=_advice(start),
                elem_id="model",
                filterable=False,
                interactive=True,
            )
    chosen = gr.State(start.choice.name, time_to_live=86_400)

    def choose(name: object, previous: str, kept: object) -> Iterator[dict]:
        """Make `name` the model in use; when it cannot be had, say why and keep the previous."""
        owner = Visitor.parse(kept).owner
        try:
            choice = models.find(name)
            verb = "Loading" if models.is_here(choice) else "Downloading"
            yield {status: _line(f"{verb} {choice.title}", "busy")}
            loaded = models.fetch(name)
        except Exception as error:
            yield _failed(error, previous, owner)
            return
        yield {
            status: _ready(loaded),
            model: gr.Dropdown(choices=models.rows(owner, name), value=name, info=_advice(loaded)),
            chosen: name,
        }

    def _failed(error: Exception, previous: str, owner: str | None) -> dict:
        if not isinstance(error, UserError):
            log.error("a model could not be loaded", exc_info=error)
        words = str(error) if isinstance(error, UserError) else "The model could not be loaded."
        try:
            kept = models.find(previous)
        except UserError:  # a run's model that has been deleted meanwhile
            kept = start.choice
        return {
            status: _line(f"{words} {kept.title} stays in use.", "error"),
            model: gr.Dropdown(choices=models.rows(owner, kept.name), value=kept.name),
            chosen: kept.name,
        }

    model.input(
        choose,
        [model, chosen, visitor],
        [status, model, chosen],
        concurrency_id="models",
        concurrency_limit=2,
        api_visibility="private",
        show_progress="hidden",
    )
    return Picker(model, chosen, status, choose)


def _ready(loaded: Loaded) -> str:
    return _line(f"{describe_machine()}, {loaded.choice.title} ready")


def _advice(loaded: Loaded) -> str:
    if loaded.choice.tells_stories:
        return "It knows fairy tales; the GPT-2 sizes know the web."
    if loaded.choice.download:
        return "OpenAI's released weights. The embedded Storyteller is smaller and faster."
    return f"{loaded.model.parameter_count() / 1e6:.1f} million parameters."


def _line(words: str, kind: str = "ready") -> str:
    return f'<p class="{kind}" role="status">{html.escape(words)}</p>'
