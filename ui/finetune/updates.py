"""A run on the page: what has changed since the last look, and nothing else.

The page asks every second. Each section has a key that says whether the browser already shows it;
a section is drawn and sent only if its key has changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import gradio as gr

from gpt2.errors import UserError
from service.status import RunStatus
from service.verdict import verdict
from train.states import RunState
from ui.context import LIGHT, PageContext
from ui.finetune import run_html, samples_html
from ui.finetune.panel import ACTIONS, BLANK, RunPanel, checkpoint_rows
from ui.messages import SECONDS_BETWEEN_ANNOUNCEMENTS, paragraph
from ui.run_model import run_rows
from ui.visitor import Visitor

Section = tuple[Hashable, Callable[[], dict]]


@dataclass(frozen=True)
class Shown:
    """What this page already shows: the key of each section, and what was last announced."""

    keys: dict[str, Hashable] = field(default_factory=dict)
    words: str = ""
    said: float = -SECONDS_BETWEEN_ANNOUNCEMENTS


class RunView:
    """Updates of the panel, by component."""

    def __init__(
        self,
        context: PageContext,
        panel: RunPanel,
        mine: gr.Dropdown,
        timer: gr.Timer,
        announcer: gr.HTML,
    ) -> None:
        self.context = context
        self.mine = mine  # the list of the visitor's runs
        self.panel = panel
        self.timer = timer
        self.announcer = announcer
        self.notice = panel.notice
        self.shown = gr.State(Shown(), time_to_live=86_400)

    @property
    def inputs(self) -> list[gr.components.Component]:
        return [self.context.visitor, self.shown, self.context.picker.chosen]

    @property
    def outputs(self) -> list[gr.components.Component]:
        panel = self.panel
        parts = [panel.blank, panel.box, panel.head, panel.chart, panel.link, panel.samples]
        parts += [*panel.buttons.values(), panel.discard_surely, panel.more_row]
        parts += [panel.after, panel.checkpoint, panel.meter, panel.compared]
        parts += [self.mine, self.context.picker.model]
        return [*parts, self.notice, self.timer, self.announcer, self.shown]

    def look(self, kept: object, shown: Shown, chosen: str) -> dict:
        """What the timer asks for: the visitor's run as it is now. `chosen` is the picked model."""
        visitor = Visitor.parse(kept)
        try:
            status = self.context.runs.status(visitor.run) if visitor.run else None
        except UserError as error:
            return self.clear(str(error))
        if status is None:
            return self.clear()
        return self._changes(status, shown, visitor, chosen)

    def wire(self) -> None:
        self.timer.tick(self.look, self.inputs, self.outputs, **LIGHT)

    def clear(self, words: str = "") -> dict:
        """The panel without a run; `words` says why."""
        said = paragraph(words, "error") if words else BLANK
        return {
            self.panel.blank: gr.HTML(said, visible=True),
            self.panel.box: gr.Column(visible=False),
            self.timer: gr.Timer(active=False),
            self.shown: Shown(),
        }

    def _changes(self, status: RunStatus, shown: Shown, visitor: Visitor, chosen: str) -> dict:
        words, said, spoken = run_html.spoken(status), shown.said, {}
        waits = words != shown.words and time.monotonic() - said < SECONDS_BETWEEN_ANNOUNCEMENTS
        if waits:
            words = shown.words
        elif words != shown.words:
            spoken, said = {self.announcer: paragraph(words)}, time.monotonic()
        sections = self._sections(status) | self._lists(status, visitor, chosen)
        active = status.state.is_active or waits  # the final state is announced, too
        sections["timer"] = (active, lambda: {self.timer: gr.Timer(active=active)})
        changes, keys = spoken, {}
        for name, (key, draw) in sections.items():
            keys[name] = (status.id, key)
            if shown.keys.get(name) != keys[name]:
                changes |= draw()
        if changes:
            changes[self.shown] = Shown(keys, words, said)
        return changes or gr.skip()

    def _sections(self, status: RunStatus) -> dict[str, Section]:
        panel, ended = self.panel, status.state.is_ended
        title = self.context.models.title_of(status.model)
        head = run_html.head(status, title, verdict(status))
        written = tuple(sample.step for sample in status.samples)
        last = status.progress[-1].step if status.progress else -1
        return {
            "box": (True, self._open),
            "head": (head, lambda: {panel.head: head}),
            "chart": (
                (len(status.progress), last, status.steps, status.best_step),
                lambda: {panel.chart: run_html.curves(status)},
            ),
            "buttons": (status.state, lambda: self._buttons(status)),
            "link": (
                status.state.is_active,
                lambda: {panel.link: run_html.link(status.id, status.state.is_active)},
            ),
            "samples": (written, lambda: self._samples(status)),
            "after": (
                (ended, status.result_ready, status.checkpoints, status.memorization),
                lambda: self._after(status),
            ),
        }

    def _lists(self, status: RunStatus, visitor: Visitor, chosen: str) -> dict[str, Section]:
        """The visitor's runs, and their models in the picker as soon as they are ready."""

        def draw() -> dict:
            runs = run_rows(self.context.runs, visitor.owner)
            here = visitor.run if visitor.run in [run for _, run in runs] else None
            models = self.context.models.rows(visitor.owner, chosen)
            return {
                self.mine: gr.Dropdown(choices=runs, value=here),
                self.context.picker.model: gr.Dropdown(choices=models),
            }

        return {"lists": ((status.state.is_ended, status.result_ready), draw)}

    def _open(self) -> dict:
        return {self.panel.blank: gr.HTML(visible=False), self.panel.box: gr.Column(visible=True)}

    def _buttons(self, status: RunStatus) -> dict:
        possible = possible_actions(status)
        return {
            **{
                button: gr.Button(visible=name in possible)
                for name, button in self.panel.buttons.items()
            },
            self.panel.discard_surely: gr.Button(visible=False),
            self.panel.more_row: gr.Row(visible="extend" in possible),
            self.notice: "",
        }

    def _samples(self, status: RunStatus) -> dict:
        shown = samples_html.timeline(status.samples, prompt_of(status), self._spans(status))
        return {self.panel.samples: shown}

    def _after(self, status: RunStatus) -> dict:
        panel = self.panel
        if status.state.is_active or not status.checkpoints:
            return {panel.after: gr.Column(visible=False)}
        rows = checkpoint_rows(status.checkpoints)
        return {
            panel.after: gr.Column(visible=True),
            panel.checkpoint: gr.Radio(choices=rows, value=rows[0][1]),
            panel.meter: samples_html.meter(status.memorization),
            panel.compared: self._before_and_after(status),
        }

    def _before_and_after(self, status: RunStatus) -> str:
        """The samples of step 0 and of the best step, which already exist."""
        by_step = {sample.step: sample.text for sample in status.samples}
        steps = [step for step in by_step if step > 0]
        if 0 not in by_step or not steps:
            return ""
        step = status.best_step if status.best_step in steps else steps[-1]
        return samples_html.comparison(
            prompt_of(status),
            by_step[0],
            self._spans(status)(by_step[step]),
            self.context.models.title_of(status.model),
            f"After {step:,} steps",
            (status.config or {}).get("seed", 0),
        )

    def _spans(self, status: RunStatus) -> Callable[[str], samples_html.Spans]:
        def spans_of(text: str) -> samples_html.Spans:
            try:
                return self.context.runs.memorized_spans(status.id, text)
            except UserError:  # the text has no index yet
                return [(text, False)]

        return spans_of


def possible_actions(status: RunStatus) -> set[str]:
    """What can be done with a run in this state: names from `ACTIONS`, and "extend"."""
    if status.state is RunState.QUEUED:
        return {"discard"}
    if status.state.is_active:
        return {"keep_best", "keep_latest", "discard"}
    possible = {"discard"}
    if status.state is not RunState.DONE and status.step < status.steps:
        possible.add("resume")
    if status.state in (RunState.DONE, RunState.STOPPED):
        possible.add("extend")
    assert possible - {"extend"} <= set(ACTIONS)
    return possible


def prompt_of(status: RunStatus) -> str:
    return (status.config or {}).get("sample_prompt", "")
