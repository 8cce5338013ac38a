"""The Write tab: what its buttons do.

Every handler takes what the browser sends as objects and parses it; what was written before lives
on the server, in the visitor's session, as `Steps`.
"""

from __future__ import annotations

import html
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import fields

import gradio as gr

from gpt2.errors import UserError
from gpt2.generate import encode_prompt
from ui.api import BROKEN, WORKER
from ui.context import LIGHT, Site
from ui.generation import WriteRequest, check_prompt, parse_request
from ui.models import Loaded, Models
from ui.picker import Picker
from ui.streams import stream_step
from ui.write.controls import CUSTOM, Settings, style_script
from ui.write.history import Step, Steps, push
from ui.write.snippets import make_snippets
from ui.write.view import (
    View,
    build_view,
    count_line,
    openings_for,
    say,
    show_buttons,
    show_cards,
    show_passages,
    show_snippets,
)

SETTINGS = tuple(field.name for field in fields(Settings))
SECONDS_BETWEEN_WORDS = 5.0  # a screen reader is not interrupted more often
SESSION_SECONDS = 86_400
log = logging.getLogger(__name__)


def add_write_tab(site: Site) -> None:
    """Build and wire the tab inside the open `gr.Tab`."""
    picker = site.picker
    view = build_view(site.start)
    steps = gr.State((), time_to_live=SESSION_SECONDS)
    writer = Writer(site.models, view, steps)
    _wire_generation(writer, picker)
    _wire_editing(writer)
    _wire_prompt(writer, picker)
    _wire_style(view)


class Writer:
    """The tab's handlers. They return updates by component; what is absent stays as it is."""

    def __init__(self, models: Models, view: View, steps: gr.State) -> None:
        self.models = models
        self.view = view
        self.steps = steps

    def begin(self, steps: Steps) -> dict:
        return show_buttons(self.view, steps, running=True) | say(self.view, "Reading the prompt")

    def settle(self, steps: Steps) -> dict:
        return show_buttons(self.view, steps, running=False)

    # gradio passes the request by position, before the inputs, to functions that ask for it.

    def compose(
        self, request: gr.Request, steps: Steps, prompt: object, model: object, *settings: object
    ) -> Iterator[dict]:
        yield from self._write(request, steps, prompt, "", model, settings)

    def continue_sample(self, sample: int) -> Callable[..., Iterator[dict]]:
        """The handler that continues this sample; the others are left behind, until Undo."""

        def go_on(
            request: gr.Request, steps: Steps, model: object, *settings: object
        ) -> Iterator[dict]:
            if not steps or sample >= len(steps[-1].texts):
                yield say(self.view, "There is nothing to continue yet.", error=True)
                return
            last = steps[-1]
            kept = last.passage(sample)
            yield from self._write(request, steps, last.prompt, kept, model, settings)

        return go_on

    def retry(
        self, request: gr.Request, steps: Steps, model: object, *settings: object
    ) -> Iterator[dict]:
        """The last step once more, from the same text and with another seed."""
        if not steps:
            yield say(self.view, "There is nothing to try again yet.", error=True)
            return
        last, seed = steps[-1], SETTINGS.index("seed")
        settings = (*settings[:seed], -1, *settings[seed + 1 :])
        yield from self._write(request, steps[:-1], last.prompt, last.kept, model, settings)

    def _write(
        self,
        request: gr.Request,
        steps: Steps,
        prompt: object,
        kept: str,
        model: object,
        settings: tuple,
    ) -> Iterator[dict]:
        try:
            values = dict(zip(SETTINGS, settings, strict=True))
            wanted = parse_request(self.models, prompt, model, **values)
            loaded = self.models.load(wanted.choice.name)
            yield from self._stream(steps, kept, wanted, loaded, _address(request))
        except UserError as error:
            yield say(self.view, str(error), error=True)
        except Exception:
            log.exception("generation failed")
            yield say(self.view, BROKEN, error=True)

    def _stream(
        self, steps: Steps, kept: str, wanted: WriteRequest, loaded: Loaded, server: str
    ) -> Iterator[dict]:
        first = Step(
            wanted.prompt, kept, ("",) * wanted.sampling.samples, seed=wanted.sampling.seed
        )
        snippets = make_snippets(wanted.choice, first.basis, wanted.sampling, server)
        extra = show_snippets(self.view, snippets)
        said = time.monotonic()
        for step in stream_step(loaded, first, wanted.sampling):
            now = push(steps, step)
            # With the first text, so that a refused prompt leaves the page as it was; and with the
            # last, because a busy browser once lost what came with the first.
            if extra or all(step.endings):
                extra |= show_cards(self.view, now)
            aloud = time.monotonic() - said >= SECONDS_BETWEEN_WORDS or all(step.endings)
            said = time.monotonic() if aloud else said
            words = say(self.view, step.summary(), aloud=aloud)
            yield {self.steps: now} | show_passages(self.view, now) | words | extra
            extra = {}

    def stopped(self, steps: Steps) -> dict:
        """After Stop has ended the computation: say how far it came."""
        shown = show_buttons(self.view, steps, running=False)
        if not steps or all(steps[-1].endings):
            return shown | say(self.view, "Stopped.")
        return shown | show_passages(self.view, steps) | say(self.view, steps[-1].summary(True))

    def undo(self, steps: Steps) -> dict:
        steps = steps[:-1]
        words = say(self.view, "Undone." if steps else "Undone. The page is blank again.")
        shown = show_passages(self.view, steps) | show_cards(self.view, steps)
        return {self.steps: steps} | shown | show_buttons(self.view, steps, running=False) | words

    def count(self, prompt: object, model: object) -> str:
        try:
            loaded = self.models.load(model)
            tokens = len(encode_prompt(loaded.tokenizer, check_prompt(prompt))) if prompt else 0
        except UserError as error:
            return f'<p class="error">{html.escape(str(error))}</p>'
        return count_line(tokens, loaded.window)

    def follow_model(self, model: object) -> list[dict]:
        """Openings that suit the model."""
        return [gr.Button(words) for words in openings_for(self.models.find(model))]


def _wire_generation(writer: Writer, picker: Picker) -> None:
    view, steps = writer.view, writer.steps
    controls = [getattr(view.settings, name) for name in SETTINGS]
    texts = [part for card in view.cards for part in (card.box, card.title, card.passage)]
    lines = [view.status, view.announcer, view.blank, view.python, view.curl, view.command]
    buttons = [view.generate, view.stop, view.retry, view.undo, *(c.go_on for c in view.cards)]

    def run(triggers: list, handler, inputs: list):
        begun = gr.on(triggers, writer.begin, [steps], [*buttons, *lines[:2]], **LIGHT)
        written = begun.then(
            handler,
            inputs,
            [steps, *texts, *lines],
            concurrency_id=WORKER,
            concurrency_limit=1,
            show_progress="minimal",
            show_progress_on=view.status,
            api_visibility="private",
        )
        written.then(writer.settle, [steps], buttons, **LIGHT)
        return written

    runs = [
        run(
            [view.generate.click, view.prompt.submit],
            writer.compose,
            [steps, view.prompt, picker.model, *controls],
        ),
        run([view.retry.click], writer.retry, [steps, picker.model, *controls]),
    ]
    for index, card in enumerate(view.cards):
        handler = writer.continue_sample(index)
        runs.append(run([card.go_on.click], handler, [steps, picker.model, *controls]))
    # Said after the cancelling has been answered: a last update of the run would overwrite it.
    stopped = view.stop.click(None, cancels=runs, api_visibility="private", queue=False)
    stopped.then(writer.stopped, [steps], [*buttons, *texts, *lines[:2]], **LIGHT)
    view.undo.click(writer.undo, [steps], [steps, *buttons, *texts, *lines[:3]], **LIGHT)


def _wire_editing(writer: Writer) -> None:
    view = writer.view
    for card in view.cards:
        script = f"(passage) => copyPassage(passage, {card.copy.elem_id!r})"
        card.copy.click(None, [card.passage], [view.announcer], js=script, api_visibility="private")


def _wire_prompt(writer: Writer, picker: Picker) -> None:
    view = writer.view
    counted = {"inputs": [view.prompt, picker.model], "outputs": [view.count], **LIGHT}
    view.prompt.change(writer.count, trigger_mode="always_last", **counted)
    picker.chosen.change(writer.follow_model, [picker.chosen], view.openings, **LIGHT)
    picker.chosen.change(writer.count, **counted)
    for opening in view.openings:
        opening.click(
            None, [opening], [view.prompt], js="(words) => words", api_visibility="private"
        )


def _wire_style(view: View) -> None:
    values = view.settings.style
    view.style.input(
        None, [view.style, *values], values, js=style_script(), api_visibility="private"
    )
    for control in values:
        control.input(None, None, [view.style], js=f"() => '{CUSTOM}'", api_visibility="private")


def _address(request: gr.Request) -> str:
    """Where the visitor sees this page, behind a proxy too."""
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", "http").split(",")[0]
    return f"{scheme}://{headers.get('host', '127.0.0.1:7860')}"
