"""The Write tab: what its buttons do.

Every handler takes what the browser sends as objects and parses it; what was written before stays
on the server, in the visitor's session, as `Steps`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

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
from ui.write.history import History, Press
from ui.write.kept import keep, parse_kept
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
# In the browser; see page.js.
_KEEP_PAGE = "(page) => keepPage(page)"
_KEEP_BOX = "(prompt, ...settings) => keepBox(prompt, settings)"
_FOLLOW_STYLE = f"(style) => followStyle(style, {CUSTOM!r})"
_READ_KEPT = "() => [readKept()]"
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
        self.page = context.page
        self.history = gr.State(History(), time_to_live=SESSION_SECONDS)

    def begin(self, history: History) -> dict:
        return show_buttons(self.view, history, running=True) | say(self.view, "Reading the prompt")

    def settle(self, history: History) -> dict:
        shown = show_buttons(self.view, history, running=False)
        return shown | {self.view.kept: keep(history)}

    def restore(self, kept: object) -> dict:
        """The page was opened: show what this browser kept of the last time."""
        found = parse_kept(kept)
        if not (found.prompt or found.history.at):
            return {self.view.kept: ""}
        shown = self._walk(found.history, "Restored.") | {self.view.prompt: found.prompt}
        controls = self.view.settings.values()
        return (
            shown
            | {control: value for control, value in zip(controls, found.settings)}
            | {self.view.fresh: gr.Button(visible=True)}
        )

    def start_fresh(self) -> dict:
        return self._walk(History(), "")

    # To functions that ask for it, gradio passes the request by position, before the inputs.

    def compose(
        self,
        request: gr.Request,
        history: History,
        prompt: object,
        model: object,
        *settings: object,
    ) -> Iterator[dict]:
        yield from self._write(request, history.add, Press(Step("")), prompt, model, settings)

    def continue_sample(self, sample: int) -> Callable[..., Iterator[dict]]:
        """The handler that continues this text; the others stay beside it."""

        def continue_it(
            request: gr.Request, history: History, model: object, *settings: object
        ) -> Iterator[dict]:
            passages = history.passages
            if sample >= len(passages):
                yield say(self.view, "There is nothing to continue yet.", error=True)
                return
            one, beside = passages[sample], (*passages[:sample], *passages[sample + 1 :])
            begun = Press(Step(one.prompt, one.kept + one.new), beside, sample)
            yield from self._write(request, history.add, begun, one.prompt, model, settings)

        return continue_it

    def retry(
        self, request: gr.Request, history: History, model: object, *settings: object
    ) -> Iterator[dict]:
        """Repeat the last press from the same text, with another seed, as a variant of it."""
        last = history.press
        if last is None:
            yield say(self.view, "There is nothing to retry yet.", error=True)
            return
        settings = _with_setting(settings, "seed", -1)
        yield from self._write(request, history.retry, last, last.step.prompt, model, settings)

    @guard("generating", _refuse)
    def _write(
        self,
        request: gr.Request,
        add: Callable[[Press], History],
        begun: Press,
        prompt: object,
        model: object,
        settings: tuple,
    ) -> Iterator[dict]:
        """`add` puts what is written into the history; `begun` says behind and beside what. Beside
        others there is room for one text."""
        if begun.beside:
            settings = _with_setting(settings, "samples", 1)
        wanted = parse_request(self.models, prompt, model, **typed_settings(settings))
        loaded = self.models.load(wanted.choice.name)
        yield from self._stream(add, begun, wanted, loaded, request)

    def _stream(
        self,
        add: Callable[[Press], History],
        begun: Press,
        wanted: WriteRequest,
        loaded: Loaded,
        request: gr.Request,
    ) -> Iterator[dict]:
        blank = ("",) * wanted.sampling.samples
        first = Step(wanted.prompt, begun.step.kept, blank, seed=wanted.sampling.seed)
        snippets = make_snippets(wanted.choice, first.basis, wanted.sampling, _address(request))
        extra = show_snippets(self.view, snippets)
        said = time.monotonic()
        reader = Reader.of(request, request.session_hash)
        for step in stream_step(loaded, first, wanted.sampling, reader):
            now = add(replace(begun, step=step))
            # With the first text, so that a refused prompt leaves the page as it was; and with the
            # last, because a busy browser once lost what came with the first.
            if extra or all(step.endings):
                extra |= show_cards(self.view, now)
            due = time.monotonic() - said >= SECONDS_BETWEEN_ANNOUNCEMENTS
            aloud = due or all(step.endings)
            said = time.monotonic() if aloud else said
            words = say(self.view, step.summary(), aloud=aloud)
            yield {self.history: now} | show_passages(self.view, now) | words | extra
            extra = {}

    def stopped(self, history: History) -> dict:
        """After Stop has ended the computation, say how far it got."""
        shown = self.settle(history)
        if history.press is None or history.press.is_whole:
            return shown | say(self.view, "Stopped.")
        words = history.press.step.summary(True)
        return shown | show_passages(self.view, history) | say(self.view, words)

    def undo(self, history: History) -> dict:
        history = history.undo()
        return self._walk(history, "Undone." if history.at else "Undone. The page is blank again.")

    def redo(self, history: History) -> dict:
        return self._walk(history.redo(), "Done again.")

    def show_variant(self, by: int) -> Callable[[History], dict]:
        def show(history: History) -> dict:
            history = history.show(by)
            return self._walk(history, history.press.step.summary() if history.press else "")

        return show

    def _walk(self, history: History, words: str) -> dict:
        """Another version of the page, and the prompt that was in the box with it."""
        shown = show_passages(self.view, history) | show_cards(self.view, history)
        shown |= self.settle(history)
        prompt = {self.view.prompt: history.prompt}
        return {self.history: history} | shown | prompt | say(self.view, words)

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
        self._wire_keeping()

    def _wire_generation(self) -> None:
        view, history = self.view, self.history
        controls = list(view.settings.values())
        lines = [view.status, view.announcer, view.blank, view.python, view.curl, view.command]

        def run(triggers: list, handler, inputs: list):
            begun = gr.on(triggers, self.begin, [history], [*view.buttons, *lines[:2]], **LIGHT)
            begun.then(None, None, None, js="() => showText()", api_visibility="private")
            written = begun.then(
                handler,
                inputs,
                [history, *view.texts, *lines],
                concurrency_id=WORKER,
                concurrency_limit=AT_ONCE,
                show_progress="minimal",
                show_progress_on=view.status,
                api_visibility="private",
            )
            settled = written.then(self.settle, [history], [*view.buttons, view.kept], **LIGHT)
            self._keep_after(settled)
            return written

        model = self.picker.model
        composed = [history, view.prompt, model, *controls]
        runs = [
            run([view.generate.click, view.prompt.submit], self.compose, composed),
            run([view.retry.click], self.retry, [history, model, *controls]),
        ]
        for index, card in enumerate(view.cards):
            handler = self.continue_sample(index)
            runs.append(run([card.continue_.click], handler, [history, model, *controls]))
        # Only after the cancel has been answered: a last update of the run would overwrite it.
        stopped = view.stop.click(None, cancels=runs, api_visibility="private", queue=False)
        ended = [*view.buttons, *view.texts, *lines[:2], view.kept]
        self._keep_after(stopped.then(self.stopped, [history], ended, **LIGHT))
        for button, handler in (
            (view.undo, self.undo),
            (view.redo, self.redo),
            (view.earlier, self.show_variant(-1)),
            (view.later, self.show_variant(1)),
        ):
            self._keep_after(button.click(handler, [history], self._walked, **LIGHT))

    @property
    def _walked(self) -> list:
        """What another version of the page changes."""
        view = self.view
        lines = [view.status, view.announcer, view.blank]
        return [self.history, view.prompt, *view.buttons, *view.texts, *lines, view.kept]

    def _keep_after(self, event) -> None:
        event.then(None, [self.view.kept], None, js=_KEEP_PAGE, api_visibility="private")

    def _wire_keeping(self) -> None:
        """In this browser: the prompt and the settings at each change, the page at each end."""
        view, private = self.view, {"api_visibility": "private"}
        controls = list(view.settings.values())
        changed = [control.change for control in (view.prompt, *controls)]
        gr.on(changed, None, [view.prompt, *controls], None, js=_KEEP_BOX, **private)
        restored = [*self._walked, *controls]
        opened = self.page.load(self.restore, [view.kept], restored, js=_READ_KEPT, **LIGHT)
        opened.then(None, None, None, js="() => keepFromNow()", **private)
        fresh = view.fresh.click(self.start_fresh, None, self._walked, **LIGHT)
        self._keep_after(fresh)

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
        view.style.input(None, [view.style], [view.style_hint], js=_FOLLOW_STYLE, **private)
        for control in values:
            control.input(None, None, [view.style], js=f"() => '{CUSTOM}'", **private)


def _with_setting(settings: tuple, name: str, value: object) -> tuple:
    place = _NAMES.index(name)
    return (*settings[:place], value, *settings[place + 1 :])


def _address(request: gr.Request) -> str:
    """The address at which the visitor sees this page, even behind a proxy."""
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", "http").split(",")[0]
    return f"{scheme}://{headers.get('host', '127.0.0.1:7860')}"
