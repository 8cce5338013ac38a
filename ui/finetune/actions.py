"""What can be done with a run: come back to it, stop it, continue it, discard it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import gradio as gr
from gradio.events import Dependency as Event

from gpt2.errors import UserError
from gpt2.settings import Setting
from service.zero_gpu import SLICE_SECONDS, is_zero_gpu
from train.states import RunState
from ui.context import LIGHT, SHOW_RUN, PageContext
from ui.finetune.form import Form
from ui.finetune.updates import RunView
from ui.messages import error_line, guard, line
from ui.run_model import run_rows
from ui.visitor import Visitor, as_id

_NO_RUN = "0" * 32  # for an address that names none: looking at it says so
SLICES = {
    "concurrency_id": "slice",
    "concurrency_limit": 8,
    "show_progress": "hidden",
    "api_visibility": "private",
}
_MORE_STEPS = Setting("to train on", name="More steps", kind="int", low=1, high=100_000)


def _refuse(words: str, actions: RunActions, *inputs: object) -> dict:
    return {actions.view.notice: error_line(words)}


class RunActions:
    """The handlers below a run's chart. Each does one thing, then looks at the run again."""

    def __init__(self, context: PageContext, form: Form, view: RunView, started: Event) -> None:
        """`started` is the event of a run's start."""
        self.context, self.started = context, started
        self.form = form
        self.view = view
        self.panel = view.panel

    # ---- coming back

    def attach(self, request: gr.Request, kept: object, chosen: str) -> dict:
        """The page was opened: show the run in its address, else the one viewed last."""
        visitor = Visitor.parse(kept).known()
        named = request.query_params.get("run")
        asked = (as_id(named) or _NO_RUN) if named else None
        if asked or not self._is_here(visitor.run):  # a requested run that is gone is reported
            visitor = visitor.at(asked)
        shown = {self.context.visitor: visitor.kept()} | self._lists(visitor, chosen)
        return shown | ({self.context.tabs: gr.Tabs(selected="fine-tune")} if asked else {})

    def _is_here(self, run: str | None) -> bool:
        try:
            return run is not None and bool(self.context.runs.status(run))
        except UserError:
            return False

    def _lists(self, visitor: Visitor, chosen: str) -> dict:
        """The visitor's own runs below the form, and their models in the picker. If the model in
        use was deleted, the one that the page starts with takes its place."""
        models = self.context.models.rows(visitor.owner, chosen)
        if chosen not in [name for _, name in models]:
            chosen = self.context.start.choice.name
        rows = run_rows(self.context.runs, visitor.owner)
        here = visitor.run if visitor.run in [run for _, run in rows] else None
        return {
            self.form.mine: gr.Dropdown(choices=rows, value=here),
            self.context.picker.model: gr.Dropdown(choices=models, value=chosen),
            self.context.picker.chosen: chosen,
        }

    def pick(self, kept: object, run: object) -> dict:
        return {self.context.visitor: Visitor.parse(kept).at(as_id(run)).kept()}

    # ---- controlling

    def stop(self, keep: str) -> Callable[[object], str]:
        words = f"Stopping; the {keep} state will be kept."
        return self._doing(lambda run: self.context.runs.stop(run, keep), words)

    def resume(self) -> Callable[[object], str]:
        return self._doing(self.context.runs.resume, "Resuming from the last checkpoint.")

    @guard("continuing a run", error_line)
    def extend(self, kept: object, steps: object) -> str:
        more = _MORE_STEPS.parse(steps)
        return self._doing(lambda run: self.context.runs.extend(run, more), "Continuing.")(kept)

    def advance(self, kept: object) -> Iterator[str]:
        """On ZeroGPU: train the visitor's run slice by slice, while the page is open."""
        run = Visitor.parse(kept).run
        if run is not None:
            yield from self._advance(run)

    @guard("training a slice", error_line)
    def _advance(self, run: str) -> Iterator[str]:
        yield line("Waiting for a GPU. Keep this page open while it trains.")
        while not self.context.runs.status(run).state.is_ended:
            for progress in self.context.runs.slice(run, SLICE_SECONDS):
                yield line(f"On a GPU until step {progress.step:,}; then comes the next slice.")
            if self.context.runs.status(run).state is not RunState.INTERRUPTED:
                break
        yield ""

    def _doing(self, action: Callable[[str], None], words: str) -> Callable[[object], str]:
        """A handler that applies `action` to the visitor's run and says so."""

        @guard("controlling a run", error_line)
        def handler(kept: object) -> str:
            run = Visitor.parse(kept).run
            if run is None:
                raise UserError("There is no run on this page.")
            action(run)
            return line(words)

        return handler

    # ---- discarding, in two clicks

    def discard(self, kept: object, chosen: str) -> dict:
        said = self._doing(self.context.runs.discard, "The run and its model were deleted.")(kept)
        visitor = Visitor.parse(kept).at(None)
        return {
            self.view.notice: said,
            self.context.visitor: visitor.kept(),
            **self.view.clear(),
            **self._lists(visitor, chosen),
        }

    @guard("deleting runs", _refuse)
    def forget(self, kept: object, chosen: str) -> dict:
        visitor = Visitor.parse(kept)
        count = self.context.runs.delete_owner(visitor.owner) if visitor.owner else 0
        words = f"{count} run{'' if count == 1 else 's'} deleted, with their models and texts."
        visitor = visitor.at(None)
        return {
            self.view.notice: line(words),
            self.form.forget_surely: gr.Button(visible=False),
            self.context.visitor: visitor.kept(),
            **self.view.clear(),
            **self._lists(visitor, chosen),
        }

    # ---- wiring

    def wire(self) -> None:
        context, form, view, panel = self.context, self.form, self.view, self.panel
        lists = [form.mine, context.picker.model, context.picker.chosen]
        who = [context.visitor, context.picker.chosen]
        look = {"fn": view.look, "inputs": view.inputs, "outputs": view.outputs}
        address = {"fn": None, "inputs": [context.visitor], "js": SHOW_RUN}

        found = [context.visitor, context.tabs, *lists]
        opened = context.page.load(self.attach, who, found, **LIGHT)
        picked = form.mine.input(
            self.pick, [context.visitor, form.mine], [context.visitor], **LIGHT
        )
        for event in (opened, picked):
            event.then(**look, **LIGHT).then(**address, api_visibility="private")

        controlled = [
            panel.buttons["keep_best"].click(
                self.stop("best"), [context.visitor], [view.notice], **LIGHT
            ),
            panel.buttons["keep_latest"].click(
                self.stop("latest"), [context.visitor], [view.notice], **LIGHT
            ),
            panel.buttons["resume"].click(self.resume(), [context.visitor], [view.notice], **LIGHT),
            panel.continue_.click(
                self.extend, [context.visitor, panel.more], [view.notice], **LIGHT
            ),
        ]
        for event in controlled:
            event.then(**look, **LIGHT)
        if is_zero_gpu():
            slices = {"fn": self.advance, "inputs": [context.visitor], "outputs": [view.notice]}
            for event in (self.started, *controlled[2:]):
                event.then(**slices, **SLICES)

        ask, sure = panel.buttons["discard"], panel.discard_surely
        thrown = [*{*lists, context.visitor, *view.outputs}]
        ask.click(partial(_swap, ask, sure), None, [ask, sure], **LIGHT)
        discarded = sure.click(self.discard, who, thrown, **LIGHT)
        ask, sure = form.forget, form.forget_surely
        ask.click(partial(_swap, ask, sure), None, [ask, sure], **LIGHT)
        forgotten = sure.click(self.forget, who, [*thrown, ask, sure], **LIGHT)
        for event in (discarded, forgotten):
            event.then(**address, api_visibility="private")
        sure.click(None, None, None, js="() => forgetKept()", api_visibility="private")


def _swap(ask: gr.Button, sure: gr.Button) -> dict:
    """The first of two clicks: the question replaces the button."""
    return {ask: gr.Button(visible=False), sure: gr.Button(visible=True)}
