"""The head of the page: its name, what it runs on, and the choice of a model."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from gpt2.errors import UserError
from ui.messages import guard, line
from ui.models import Loaded, Models, describe_machine
from ui.visitor import Visitor

TITLE = "GPT-2"
SUBTITLE = "written from scratch, running here"
ABOUT = (
    "GPT-2 is the language model that OpenAI published in 2019. This one is built anew, line by "
    "line. The small Storyteller writes fluent nonsense; you can teach it a text of your own."
)


def _refuse(words: str, picker: Picker, name: object, previous: str, kept: object) -> dict:
    """Say why the model is not available; the previous one stays in use."""
    try:
        choice = picker.models.find(previous)
    except UserError:  # a run's model that was deleted in the meantime
        choice = picker.start.choice
    rows = picker.models.rows(Visitor.parse(kept).owner, choice.name)
    return {
        picker.status: line(f"{words} Still using {choice.title}.", "error"),
        picker.model: gr.Dropdown(choices=rows, value=choice.name),
        picker.chosen: choice.name,
    }


class Picker:
    """The components that the tabs read or follow, built inside the open `gr.Blocks`."""

    def __init__(self, models: Models, start: Loaded, visitor: gr.BrowserState) -> None:
        self.models = models
        self.start = start  # the model that the page starts with
        self.visitor = visitor
        with gr.Row(elem_id="head", equal_height=False):
            with gr.Column(scale=3, min_width=300):
                gr.HTML(f"<h1>{TITLE} <small>{SUBTITLE}</small></h1>")
                gr.HTML(f"<p>{ABOUT}</p>", elem_id="about")
                self.status = gr.HTML(_ready(start), elem_id="machine")
            with gr.Column(scale=2, min_width=300):
                self.model = gr.Dropdown(
                    choices=models.rows(),
                    value=start.choice.name,
                    label="Model",
                    info=_advice(start),
                    elem_id="model",
                    filterable=False,
                    interactive=True,
                )
        # The name of the last model that loaded.
        self.chosen = gr.State(start.choice.name, time_to_live=86_400)

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.status, self.model, self.chosen]

    @guard("loading a model", _refuse)
    def choose(self, name: object, previous: str, kept: object) -> Iterator[dict]:
        """Make `name` the model in use; if that fails, say why and keep the previous one."""
        choice = self.models.find(name)
        verb = "Loading" if self.models.is_here(choice) else "Downloading"
        yield {self.status: line(f"{verb} {choice.title}", "busy")}
        loaded = self.models.fetch(name)
        rows = self.models.rows(Visitor.parse(kept).owner, name)
        yield {
            self.status: _ready(loaded),
            self.model: gr.Dropdown(choices=rows, value=name, info=_advice(loaded)),
            self.chosen: name,
        }

    def wire(self) -> None:
        self.model.input(
            self.choose,
            [self.model, self.chosen, self.visitor],
            self.outputs,
            concurrency_id="models",
            concurrency_limit=2,
            api_visibility="private",
            show_progress="hidden",
        )


def _ready(loaded: Loaded) -> str:
    machine = describe_machine(str(loaded.model.device))
    return line(f"{machine}, {loaded.choice.title} ready", "ready")


def _advice(loaded: Loaded) -> str:
    if loaded.choice.tells_stories:
        return "Trained on fairy tales; the GPT-2 models were trained on web pages."
    if loaded.choice.download:
        return "OpenAI's released weights. The bundled Storyteller is smaller and faster."
    return f"{loaded.model.parameter_count() / 1e6:.1f} million parameters."
