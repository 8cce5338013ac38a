"""The Write tab: what its buttons do.

Every handler takes what the browser sends as objects and parses it; what was written before stays
on the server, in the visitor's session, as `Steps`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import gradio as gr

from gpt2.generate import encode_prompt
from ui.context import LIGHT, PageContext
from ui.generation import (
    AT_ONCE,
    SETTINGS,
    WORKER,
    Reader,
    Step,
    WriteRequest,
    check_prompt,
    parse_request,
    stream_step,
)
from ui.messages import SECONDS_BETWEEN_ANNOUNCEMENTS, error_line, guard
from ui.models import Loaded
from ui.write.controls import CUSTOM, STYLED, style_script, typed_settings
from ui.write.history import Steps, add_step
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

SESSION_SECONDS = 86_400
_NAMES = tuple(one.name for one in SETTINGS)


def add_write_tab(context: PageContext) -> None:
    """Build and wire the tab inside the open `gr.Tab`."""
    Writer(context, build_view(context.start)).wire()


def _refuse(words: str, writer: Writer, *inputs: object) -> dict:
    return say(writer.view, words, error=True)


class Writer:
    """The tab's handlers. They return updates by component; the others stay as they are."""

    def __init__(self, context: PageContext, view: View) -> None:
        self.models = context.models
        self.picker = context.picker
        self.view = view
        self.steps = gr.State((), time_to_live=SESSION_SECONDS)

    def begin(self, steps: Steps) -> dict:
        return show_buttons(self.view, steps, running=True) | say(self.view, "Reading the prompt")

    def settle(self, steps: Steps) -> dict:
        return show_buttons(self.view, steps, running=False)

    # To functions that ask for it, gradio passes the request by position, before the inputs.

    def compose(
        self, request: gr.Request, steps: Steps, prompt: object, model: object, *settings: object
    ) -> Iterator[dict]:
        yield from self._write(request, steps, prompt, "", model, settings)

    def continue_sample(self, sample: int) -> Callable[..., Iterator[dict]]:
        """The handler that continues this sample; the others are dropped, until Undo."""

        def continue_it(
            request: gr.Request, steps: Steps, model: object, *settings: object
        ) -> Iterator[dict]:
            if not steps or sample >= len(steps[-1].texts):
                yield say(self.view, "There is nothing to continue yet.", error=True)
                return
            last = steps[-1]
            kept = last.passage(sample)
            yield from self._write(request, steps, last.prompt, kept, model, settings)

        return continue_it

    def retry(
        self, request: gr.Request, steps: Steps, model: object, *settings: object
    ) -> Iterator[dict]:
        """Repeat the last step from the same text, with another seed."""
        if not steps:
            yield say(self.view, "There is nothing to retry yet.", error=True)
            return
        last, seed = steps[-1], _NAMES.index("seed")
        settings = (*settings[:seed], -1, *settings[seed + 1 :])
        yield from self._write(request, steps[:-1], last.prompt, last.kept, model, settings)

    @guard("generating", _refuse)
    def _write(
        self,
        request: gr.Request,
        steps: Steps,
        prompt: object,
        kept: str,
        model: object,
        settings: tuple,
    ) -> Iterator[dict]:
        wanted = parse_request(self.models, prompt, model, **typed_settings(settings))
        loaded = self.models.load(wanted.choice.name)
        yield from self._stream(steps, kept, wanted, loaded, request)

    def _stream(
        self, steps: Steps, kept: str, wanted: WriteRequest, loaded: Loaded, request: gr.Request
    ) -> Iterator[dict]:
        first = Step(
            wanted.prompt, kept, ("",) * wanted.sampling.samples, seed=wanted.sampling.seed
        )
        snippets = make_snippets(wanted.choice, first.basis, wanted.sampling, _address(request))
        extra = show_snippets(self.view, snippets)
        said = time.monotonic()
        reader = Reader.of(request, request.session_hash)
        for step in stream_step(loaded, first, wanted.sampling, reader):
            now = add_step(steps, step)
            # With the first text, so that a refused prompt leaves the page as it was; and with the
            # last, because a busy browser once lost what came with the first.
            if extra or all(step.endings):
                extra |= show_cards(self.view, now)
            due = time.monotonic() - said >= SECONDS_BETWEEN_ANNOUNCEMENTS
            aloud = due or all(step.endings)
            said = time.monotonic() if aloud else said
            words = say(self.view, step.summary(), aloud=aloud)
            yield {self.steps: now} | show_passages(self.view, now) | words | extra
            extra = {}

    def stopped(self, steps: Steps) -> dict:
        """After Stop has ended the computation, say how far it got."""
        shown = show_buttons(self.view, steps, running=False)
        if not steps or all(steps[-1].endings):
            return shown | say(self.view, "Stopped.")
        return shown | show_passages(self.view, steps) | say(self.view, steps[-1].summary(True))

    def undo(self, steps: Steps) -> dict:
        steps = steps[:-1]
        words = say(self.view, "Undone." if steps else "Undone. The page is blank again.")
        shown = show_passages(self.view, steps) | show_cards(self.view, steps)
        return {self.steps: steps} | shown | show_buttons(self.view, steps, running=False) | words

    @guard("counting tokens", error_line)
    def count(self, prompt: object, model: object) -> str:
        loaded = self.models.load(model)
        tokens = len(encode_prompt(loaded.tokenizer, check_prompt(prompt))) if prompt else 0
        return count_line(tokens, loaded.window)

    def follow_model(self, model: object) -> list[dict]:
        """Show openings that suit the model."""
        return [gr.Button(words) for words in openings_for(self.models.find(model))]

    def wire(self) -> None:
        self._wire_generation()
        self._wire_copying()
        self._wire_prompt()
        self._wire_style()

    def _wire_generation(self) -> None:
        view, steps = self.view, self.steps
        controls = list(view.settings.values())
        texts = [part for card in view.cards for part in (card.box, card.title, card.passage)]
        lines = [view.status, view.announcer, view.blank, view.python, view.curl, view.command]
        buttons = [view.generate, view.stop, view.retry, view.undo]
        buttons += [card.continue_ for card in view.cards]

        def run(triggers: list, handler, inputs: list):
            begun = gr.on(triggers, self.begin, [steps], [*buttons, *lines[:2]], **LIGHT)
            written = begun.then(
                handler,
                inputs,
                [steps, *texts, *lines],
                concurrency_id=WORKER,
                concurrency_limit=AT_ONCE,
                show_progress="minimal",
                show_progress_on=view.status,
                api_visibility="private",
            )
            written.then(self.settle, [steps], buttons, **LIGHT)
            return written

        model = self.picker.model
        composed = [steps, view.prompt, model, *controls]
        runs = [
            run([view.generate.click, view.prompt.submit], self.compose, composed),
            run([view.retry.click], self.retry, [steps, model, *controls]),
        ]
        for index, card in enumerate(view.cards):
            handler = self.continue_sample(index)
            runs.append(run([card.continue_.click], handler, [steps, model, *controls]))
        # Only after the cancel has been answered: a last update of the run would overwrite it.
        stopped = view.stop.click(None, cancels=runs, api_visibility="private", queue=False)
        stopped.then(self.stopped, [steps], [*buttons, *texts, *lines[:2]], **LIGHT)
        view.undo.click(self.undo, [steps], [steps, *buttons, *texts, *lines[:3]], **LIGHT)

    def _wire_copying(self) -> None:
        for card in self.view.cards:
            script = f"(passage) => copyPassage(passage, {card.copy.elem_id!r})"
            said = [self.view.announcer]
            card.copy.click(None, [card.passage], said, js=script, api_visibility="private")

    def _wire_prompt(self) -> None:
        view, picker = self.view, self.picker
        counted = {"inputs": [view.prompt, picker.model], "outputs": [view.count], **LIGHT}
        view.prompt.change(self.count, trigger_mode="always_last", **counted)
        picker.chosen.change(self.follow_model, [picker.chosen], view.openings, **LIGHT)
        picker.chosen.change(self.count, **counted)
        for opening in view.openings:
            opening.click(
                None, [opening], [view.prompt], js="(words) => words", api_visibility="private"
            )

    def _wire_style(self) -> None:
        view, private = self.view, {"api_visibility": "private"}
        values = [view.settings[name] for name in STYLED]
        view.style.input(None, [view.style, *values], values, js=style_script(), **private)
        for control in values:
            control.input(None, None, [view.style], js=f"() => '{CUSTOM}'", **private)


def _address(request: gr.Request) -> str:
    """The address at which the visitor sees this page, even behind a proxy."""
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", "http").split(",")[0]
    return f"{scheme}://{headers.get('host', '127.0.0.1:7860')}"
