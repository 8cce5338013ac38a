"""What can be done with a run: come back to it, stop it, go on, throw it away."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from functools import partial

import gradio as gr

from gpt2.errors import UserError
from ui.api import BROKEN
from ui.context import LIGHT, Site
from ui.finetune.form import Desk
from ui.finetune.updates import RunView
from ui.run_model import run_rows
from ui.visitor import Visitor, as_id

MOST_STEPS_MORE = 100_000
SHOW_RUN = "(kept) => showRun(kept)"
log = logging.getLogger(__name__)


class RunActions:
    """The handlers below a run's chart. Each does one thing and looks at the run again."""

    def __init__(self, site: Site, desk: Desk, view: RunView) -> None:
        self.site = site
        self.desk = desk
        self.view = view
        self.sheet = view.sheet

    # ---- coming back

    def attach(self, request: gr.Request, kept: object, chosen: str) -> dict:
        """The page was opened: the run of its address, else the one looked at last."""
        visitor = Visitor.parse(kept).known()
        asked = as_id(request.query_params.get("run"))
        if asked or not self._is_here(visitor.run):  # of a run that was asked for it is said
            visitor = visitor.at(asked)
        return {self.site.visitor: visitor.kept()} | self._lists(visitor, chosen)

    def _is_here(self, run: str | None) -> bool:
        try:
            return run is not None and bool(self.site.runs.status(run))
        except UserError:
            return False

    def _lists(self, visitor: Visitor, chosen: str) -> dict:
        """The visitor's own runs below the desk, their models in the picker; where the model in
        use was deleted, the first one takes its place."""
        models = self.site.models.rows(visitor.owner, chosen)
        if chosen not in [name for _, name in models]:
            chosen = self.site.start.choice.name
        rows = run_rows(self.site.runs, visitor.owner)
        here = visitor.run if visitor.run in [run for _, run in rows] else None
        return {
            self.desk.mine: gr.Dropdown(choices=rows, value=here),
            self.site.picker.model: gr.Dropdown(choices=models, value=chosen),
            self.site.picker.chosen: chosen,
        }

    def pick(self, kept: object, run: object) -> dict:
        return {self.site.visitor: Visitor.parse(kept).at(as_id(run)).kept()}

    # ---- steering

    def stop(self, keep: str) -> Callable[[object], str]:
        return self._doing(lambda run: self.site.runs.stop(run, keep), f"Stopping; the {keep} "
                           "state is kept.")  # fmt: skip

    def resume(self) -> Callable[[object], str]:
        return self._doing(self.site.runs.resume, "Going on from the last checkpoint.")

    def extend(self, kept: object, steps: object) -> str:
        if type(steps) not in (int, float) or not 1 <= steps <= MOST_STEPS_MORE or steps % 1:
            return _line(f"More steps must be a whole number from 1 to {MOST_STEPS_MORE:,}.", True)
        return self._doing(lambda run: self.site.runs.extend(run, int(steps)), "Going on.")(kept)

    def _doing(self, action: Callable[[str], None], words: str) -> Callable[[object], str]:
        """A handler that does it to the visitor's run and says so."""

        def handler(kept: object) -> str:
            run = Visitor.parse(kept).run
            try:
                if run is None:
                    raise UserError("There is no run on the page.")
                action(run)
            except UserError as error:
                return _line(str(error), True)
            except Exception:
                log.exception("a run could not be steered")
                return _line(BROKEN, True)
            return _line(words)

        return handler

    # ---- throwing away, in two clicks

    def discard(self, kept: object, chosen: str) -> dict:
        said = self._doing(self.site.runs.discard, "The run and its model are deleted.")(kept)
        visitor = Visitor.parse(kept).at(None)
        return {
            self.view.notice: said,
            self.site.visitor: visitor.kept(),
            **self.view.clear(),
            **self._lists(visitor, chosen),
        }

    def forget(self, kept: object, chosen: str) -> dict:
        visitor = Visitor.parse(kept)
        try:
            count = self.site.runs.delete_owner(visitor.owner) if visitor.owner else 0
        except UserError as error:
            return {self.view.notice: _line(str(error), True)}
        words = f"{count} run{'' if count == 1 else 's'} deleted, with models and texts."
        visitor = visitor.at(None)
        return {
            self.view.notice: _line(words),
            self.desk.forget_surely: gr.Button(visible=False),
            self.site.visitor: visitor.kept(),
            **self.view.clear(),
            **self._lists(visitor, chosen),
        }

    # ---- wiring

    def wire(self) -> None:
        site, desk, view, sheet = self.site, self.desk, self.view, self.sheet
        lists = [desk.mine, site.picker.model, site.picker.chosen]
        who = [site.visitor, site.picker.chosen]
        look = {"fn": view.look, "inputs": view.inputs, "outputs": view.outputs}
        address = {"fn": None, "inputs": [site.visitor], "js": SHOW_RUN}

        opened = site.page.load(self.attach, who, [site.visitor, *lists], **LIGHT)
        picked = desk.mine.input(self.pick, [site.visitor, desk.mine], [site.visitor], **LIGHT)
        for event in (opened, picked):
            event.then(**look, **LIGHT).then(**address, api_visibility="private")

        steered = [
            sheet.buttons["keep_best"].click(
                self.stop("best"), [site.visitor], [view.notice], **LIGHT
            ),
            sheet.buttons["keep_latest"].click(
                self.stop("latest"), [site.visitor], [view.notice], **LIGHT
            ),
            sheet.buttons["resume"].click(self.resume(), [site.visitor], [view.notice], **LIGHT),
            sheet.go_on.click(self.extend, [site.visitor, sheet.more], [view.notice], **LIGHT),
        ]
        for event in steered:
            event.then(**look, **LIGHT)

        ask, sure = sheet.buttons["discard"], sheet.discard_surely
        thrown = [*{*lists, site.visitor, *view.outputs}]
        ask.click(partial(_swap, ask, sure), None, [ask, sure], **LIGHT)
        discarded = sure.click(self.discard, who, thrown, **LIGHT)
        ask, sure = desk.forget, desk.forget_surely
        ask.click(partial(_swap, ask, sure), None, [ask, sure], **LIGHT)
        forgotten = sure.click(self.forget, who, [*thrown, ask, sure], **LIGHT)
        for event in (discarded, forgotten):
            event.then(**address, api_visibility="private")


def _swap(ask: gr.Button, sure: gr.Button) -> dict:
    """The first of two clicks: the question takes the button's place."""
    return {ask: gr.Button(visible=False), sure: gr.Button(visible=True)}


def _line(words: str, error: bool = False) -> str:
    return f'<p class="{"error" if error else "hint"}" role="status">{html.escape(words)}</p>'
