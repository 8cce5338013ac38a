"""What the Write tab shows: its components, their words, and how a step gets onto the page."""

from __future__ import annotations

import html
from dataclasses import dataclass

import gradio as gr

from ui.generation import SETTINGS
from ui.models import Choice, Loaded
from ui.write.controls import CUSTOM, STYLES, GenerationControls, build_controls
from ui.write.history import History
from ui.write.snippets import Snippets

STORY_OPENINGS = (
    "Once upon a time, in a hut at the edge of the forest, there lived",
    "A fox was walking through the wood one morning when he met",
    '"I am the North Wind," said the stranger,',
)
OTHER_OPENINGS = (
    "The most surprising thing about the deep sea is",
    "A short history of bread begins with",
    "Scientists announced on Monday that",
)


# The most texts a visitor may ask for at once.
MAX_TEXTS = next(one for one in SETTINGS if one.name == "samples").within_offer().high


@dataclass(frozen=True)
class Card:
    """One sample's passage and what can be done with it."""

    box: gr.Column
    title: gr.HTML
    passage: gr.HighlightedText
    continue_: gr.Button
    copy: gr.Button


@dataclass(frozen=True)
class View:
    prompt: gr.Textbox
    count: gr.HTML
    openings: list[gr.Button]
    generate: gr.Button
    stop: gr.Button
    retry: gr.Button
    undo: gr.Button
    redo: gr.Button
    variants: gr.Row
    earlier: gr.Button
    variant: gr.HTML
    later: gr.Button
    status: gr.HTML
    fresh: gr.Button
    kept: gr.Textbox  # the page as the browser keeps it, on its way there
    announcer: gr.HTML
    style: gr.Radio
    style_hint: gr.HTML
    settings: GenerationControls
    blank: gr.HTML
    cards: list[Card]
    python: gr.Textbox
    curl: gr.Textbox
    command: gr.Textbox

    @property
    def texts(self) -> list[gr.blocks.Block]:
        """What another text on the page changes."""
        return [part for card in self.cards for part in (card.box, card.title, card.passage)]

    @property
    def buttons(self) -> list[gr.blocks.Block]:
        """All that can be pressed now and not then, and what says so."""
        own = [self.generate, self.stop, self.retry, self.undo, self.redo]
        variants = [self.variants, self.earlier, self.variant, self.later, self.fresh]
        return [*own, *variants, *(card.continue_ for card in self.cards)]


def build_view(loaded: Loaded) -> View:
    """The tab's components inside the open context, for the model that the page starts with."""
    with gr.Row(elem_id="write", elem_classes="spread", equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_id="desk", elem_classes="desk"):
            parts = _prompt_parts(loaded) | _action_parts() | _setting_parts()
        with gr.Column(scale=7, min_width=320, elem_id="page"):
            parts |= _reading_parts() | _snippet_parts()
    return View(**parts)


def _prompt_parts(loaded: Loaded) -> dict:
    prompt = gr.Textbox(
        label="Prompt",
        info="The model continues this text. Leave it empty to let the model start on its own.",
        placeholder="Once upon a time…",
        lines=5,
        max_lines=14,
        elem_id="prompt",
    )
    count = gr.HTML(count_line(0, loaded.window), elem_id="count")
    gr.HTML("<p>Or start with</p>", elem_id="openings-title")
    with gr.Row(elem_id="openings"):
        openings = [
            gr.Button(words, size="sm", elem_classes="opening", min_width=0)
            for words in openings_for(loaded.choice)
        ]
    return {"prompt": prompt, "count": count, "openings": openings}


def _action_parts() -> dict:
    with gr.Row(elem_id="actions"):
        generate = gr.Button(
            "Generate", variant="primary", scale=3, min_width=140, elem_id="generate"
        )
        stop = gr.Button(
            "Stop", variant="stop", scale=3, min_width=140, visible=False, elem_id="stop"
        )
        retry = gr.Button("Retry", scale=1, min_width=80, interactive=False, elem_id="retry")
        undo = gr.Button("Undo", scale=1, min_width=70, interactive=False, elem_id="undo")
        redo = gr.Button("Redo", scale=1, min_width=70, interactive=False, elem_id="redo")
    return {
        "generate": generate,
        "stop": stop,
        "retry": retry,
        "undo": undo,
        "redo": redo,
        "status": gr.HTML(
            hint("Shift+Enter also generates."), elem_id="status", elem_classes="status"
        ),
        "fresh": gr.Button(
            "Start fresh", size="sm", visible=False, elem_id="fresh", elem_classes="link"
        ),
        "kept": gr.Textbox(visible="hidden", label="kept", elem_id="kept"),
        "announcer": gr.HTML("", elem_id="announcer", elem_classes="heard"),
    }


def _setting_parts() -> dict:
    style = gr.Radio(
        [*STYLES, CUSTOM],
        value="Balanced",
        label="Style",
        info="How freely the model chooses its words.",
        elem_id="style",
        elem_classes="chips",
    )
    style_hint = gr.HTML("", elem_id="style-hint")
    with gr.Accordion("Settings", open=False, elem_id="settings", elem_classes="fold"):
        settings = build_controls()
    return {"style": style, "style_hint": style_hint, "settings": settings}


def _reading_parts() -> dict:
    blank = gr.HTML(
        "<p>What the model writes appears here.</p>", elem_id="blank", elem_classes="blank"
    )
    with gr.Row(visible=False, elem_id="variants") as variants:
        small = {"size": "sm", "min_width": 44, "scale": 0}
        earlier = gr.Button("Earlier", elem_id="earlier", **small)
        variant = gr.HTML("", elem_id="variant")
        later = gr.Button("Later", elem_id="later", **small)
    with gr.Row(elem_id="cards", equal_height=False):
        cards = [_card(index) for index in range(MAX_TEXTS)]
    walk = {"variants": variants, "earlier": earlier, "variant": variant, "later": later}
    return {"blank": blank, "cards": cards} | walk


def _card(index: int) -> Card:
    with gr.Column(visible=False, min_width=280, elem_classes="card") as box:
        title = gr.HTML(f"<h3>Sample {index + 1}</h3>", visible=False, elem_classes="card-title")
        passage = gr.HighlightedText(
            label=f"Text {index + 1}",
            show_label=False,
            show_inline_category=False,
            color_map={"prompt": "transparent"},  # style.css knows it by this
            interactive=False,
            elem_id=f"passage-{index}",
            elem_classes="passage",
        )
        with gr.Row(elem_classes="card-actions"):
            continue_ = gr.Button("Continue", size="sm", min_width=80, elem_id=f"continue-{index}")
            copy = gr.Button("Copy", size="sm", min_width=80, elem_id=f"copy-{index}")
    return Card(box, title, passage, continue_, copy)


def _snippet_parts() -> dict:
    parts = {}
    names = {"python": "Python", "curl": "curl", "command": "Command line"}
    fold = gr.Accordion(
        "Use these settings elsewhere", open=False, elem_id="snippets", elem_classes="fold"
    )
    with fold, gr.Tabs():
        for name, title in names.items():
            with gr.Tab(title):
                parts[name] = _snippet(name, title)
    return parts


def _snippet(name: str, title: str) -> gr.Textbox:
    return gr.Textbox(
        label=f"{title} for the last generation",
        info="The exact settings, including the seed that was used.",
        placeholder="Generate something first.",
        lines=6,
        max_lines=24,
        interactive=False,
        buttons=["copy"],
        elem_id=f"as-{name}",
        elem_classes="snippet",
    )


def openings_for(choice: Choice) -> tuple[str, ...]:
    return STORY_OPENINGS if choice.tells_stories else OTHER_OPENINGS


def show_passages(view: View, history: History) -> dict:
    """Updates that put a version's texts on the page, and nothing else."""
    passages = history.passages
    if not passages:
        return {card.passage: [] for card in view.cards}
    shown = {}
    for card, passage in zip(view.cards, passages):
        # What was written behind the model's own text is marked for a moment.
        new = (passage.new, "new" if passage.kept else None)
        parts = [(passage.prompt, "prompt"), (passage.kept, None), new]
        shown[card.passage] = [part for part in parts if part[0]]
    return shown


def show_cards(view: View, history: History) -> dict:
    """Updates that show as many cards as the version has texts."""
    count = len(history.passages)
    shown = {view.blank: gr.HTML(visible=count == 0)}
    for index, card in enumerate(view.cards):
        shown[card.box] = gr.Column(visible=index < count)
        shown[card.title] = gr.HTML(visible=count > 1)
    return shown


def show_buttons(view: View, history: History, running: bool) -> dict:
    """Updates for everything that can be pressed."""
    idle = bool(history.at) and not running
    shown = {
        view.generate: gr.Button(visible=not running),
        view.stop: gr.Button(visible=running),
        view.retry: gr.Button(interactive=idle),
        view.undo: gr.Button(interactive=idle),
        view.redo: gr.Button(interactive=history.can_redo and not running),
        view.fresh: gr.Button(visible=False),
    }
    shown |= {card.continue_: gr.Button(interactive=idle) for card in view.cards}
    version = history.version
    count = len(version.variants) if version else 0
    place = version.shown + 1 if version else 0
    return shown | {
        view.variants: gr.Row(visible=count > 1),
        view.variant: f"<p>{place} of {count}</p>",
        view.earlier: gr.Button(interactive=idle and place > 1),
        view.later: gr.Button(interactive=idle and place < count),
    }


def show_snippets(view: View, snippets: Snippets) -> dict:
    return {
        view.python: snippets.python,
        view.curl: snippets.curl,
        view.command: snippets.command,
    }


def say(view: View, words: str, error: bool = False, aloud: bool = True) -> dict:
    """Updates for the status line and, if `aloud`, for what a screen reader says."""
    kind = ' class="error"' if error else ""
    line = f"<p{kind}>{html.escape(words)}</p>"
    return {view.status: line} | ({view.announcer: line} if aloud else {})


def count_line(tokens: int, window: int) -> str:
    """ "12 / 1,024 tokens", and how much of a long prompt the model will not see."""
    line = f"{tokens:,} / {window:,} tokens"
    if tokens <= window:
        return f"<p>{line}</p>"
    return f'<p class="error">{line}: the first {tokens - window:,} will be dropped</p>'


def hint(words: str) -> str:
    return f'<p class="hint">{html.escape(words)}</p>'
