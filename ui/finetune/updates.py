"""A run on the page: what has changed since the last look, and nothing else.

The page asks every second. Each section has a key that says whether it is still what the browser
shows; only where the key differs is anything drawn and sent.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import gradio as gr

from gpt2.errors import UserError
from service.status import ENDED, RunStatus
from service.verdict import verdict
from ui.context import Site
from ui.finetune import run_html, samples_html
from ui.finetune.panel import ACTIONS, BLANK, Sheet, checkpoint_rows
from ui.run_model import run_rows
from ui.visitor import Visitor

SECONDS_BETWEEN_WORDS = 5.0  # a screen reader is not interrupted more often
Section = tuple[Hashable, Callable[[], dict]]


@dataclass(frozen=True)
class Shown:
    """What this page shows already: the key of each section, and what was last said aloud."""

    keys: dict[str, Hashable] = field(default_factory=dict)
    words: str = ""
    said: float = -SECONDS_BETWEEN_WORDS


class RunView:
    """Updates of the sheet, by component."""

    def __init__(
        self, site: Site, sheet: Sheet, mine: gr.Dropdown, timer: gr.Timer, announcer: gr.HTML
    ) -> None:
        self.site = site
        self.mine = mine  # the list of the visitor's runs
        self.sheet = sheet
        self.timer = timer
        self.announcer = announcer
        self.notice = sheet.notice
        self.shown = gr.State(Shown(), time_to_live=86_400)

    @property
    def inputs(self) -> list[gr.components.Component]:
        return [self.site.visitor, self.shown, self.site.picker.chosen]

    @property
    def outputs(self) -> list[gr.components.Component]:
        sheet = self.sheet
        parts = [sheet.blank, sheet.box, sheet.head, sheet.chart, sheet.link, sheet.samples]
        parts += [*sheet.buttons.values(), sheet.discard_surely, sheet.more_row]
        parts += [sheet.after, sheet.checkpoint, sheet.meter, sheet.compared]
        parts += [self.mine, self.site.picker.model]
        return [*parts, self.notice, self.timer, self.announcer, self.shown]

    def look(self, kept: object, shown: Shown, chosen: str) -> dict:
        """What the timer asks for: the visitor's run as it is now. `chosen` is the picked model."""
        visitor = Visitor.parse(kept)
        try:
            status = self.site.runs.status(visitor.run) if visitor.run else None
        except UserError as error:
            return self.clear(str(error))
        if status is None:
            return self.clear()
        return self._changes(status, shown, visitor, chosen)

    def clear(self, words: str = "") -> dict:
        """The sheet without a run; `words` say why."""
        said = f'<p class="error">{html.escape(words)}</p>' if words else BLANK
        return {
            self.sheet.blank: gr.HTML(said, visible=True),
            self.sheet.box: gr.Column(visible=False),
            self.timer: gr.Timer(active=False),
            self.shown: Shown(),
        }

    def _changes(self, status: RunStatus, shown: Shown, visitor: Visitor, chosen: str) -> dict:
        words, said, spoken = run_html.spoken(status), shown.said, {}
        waits = words != shown.words and time.monotonic() - said < SECONDS_BETWEEN_WORDS
        if waits:
            words = shown.words
        elif words != shown.words:
            spoken, said = {self.announcer: f"<p>{html.escape(words)}</p>"}, time.monotonic()
        sections = self._sections(status) | self._lists(status, visitor, chosen)
        active = status.is_active or waits  # the last word is said, too
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
        sheet, ended = self.sheet, status.state in ENDED
        title = self.site.models.title_of(status.model)
        head = run_html.head(status, title, verdict(status))
        written = tuple(sample.step for sample in status.samples)
        last = status.progress[-1].step if status.progress else -1
        return {
            "box": (True, self._open),
            "head": (head, lambda: {sheet.head: head}),
            "chart": (
                (len(status.progress), last, status.steps, status.best_step),
                lambda: {sheet.chart: run_html.curves(status)},
            ),
            "buttons": ((status.state in ENDED, status.state), lambda: self._buttons(status)),
            "link": (
                status.is_active,
                lambda: {sheet.link: run_html.link(status.id, status.is_active)},
            ),
            "samples": (written, lambda: self._samples(status)),
            "after": (
                (ended, status.result_ready, status.checkpoints, status.memorisation),
                lambda: self._after(status),
            ),
        }

    def _lists(self, status: RunStatus, visitor: Visitor, chosen: str) -> dict[str, Section]:
        """The visitor's runs, and their models in the picker: there as soon as one is ready."""

        def draw() -> dict:
            runs = run_rows(self.site.runs, visitor.owner)
            here = visitor.run if visitor.run in [run for _, run in runs] else None
            models = self.site.models.rows(visitor.owner, chosen)
            return {
                self.mine: gr.Dropdown(choices=runs, value=here),
                self.site.picker.model: gr.Dropdown(choices=models),
            }

        return {"lists": ((status.state in ENDED, status.result_ready), draw)}

    def _open(self) -> dict:
        return {self.sheet.blank: gr.HTML(visible=False), self.sheet.box: gr.Column(visible=True)}

    def _buttons(self, status: RunStatus) -> dict:
        possible = possible_actions(status)
        return {
            **{
                button: gr.Button(visible=name in possible)
                for name, button in self.sheet.buttons.items()
            },
            self.sheet.discard_surely: gr.Button(visible=False),
            self.sheet.more_row: gr.Row(visible="extend" in possible),
            self.notice: "",
        }

    def _samples(self, status: RunStatus) -> dict:
        shown = samples_html.timeline(status.samples, prompt_of(status), self._spans(status))
        return {self.sheet.samples: shown}

    def _after(self, status: RunStatus) -> dict:
        sheet = self.sheet
        if status.state not in ENDED or not status.checkpoints:
            return {sheet.after: gr.Column(visible=False)}
        rows = checkpoint_rows(status.checkpoints)
        return {
            sheet.after: gr.Column(visible=True),
            sheet.checkpoint: gr.Radio(choices=rows, value=rows[0][1]),
            sheet.meter: samples_html.meter(status.memorisation),
            sheet.compared: self._before_and_after(status),
        }

    def _before_and_after(self, status: RunStatus) -> str:
        """The samples of step 0 and of the best step, which are there already."""
        by_step = {sample.step: sample.text for sample in status.samples}
        steps = [step for step in by_step if step > 0]
        if 0 not in by_step or not steps:
            return ""
        step = status.best_step if status.best_step in steps else steps[-1]
        return samples_html.comparison(
            prompt_of(status),
            by_step[0],
            self._spans(status)(by_step[step]),
            self.site.models.title_of(status.model),
            f"After {step:,} steps",
            (status.config or {}).get("seed", 0),
        )

    def _spans(self, status: RunStatus) -> Callable[[str], samples_html.Spans]:
        def spans_of(text: str) -> samples_html.Spans:
            try:
                return self.site.runs.memorised_spans(status.id, text)
            except UserError:  # the text's index is not there yet
                return [(text, False)]

        return spans_of


def possible_actions(status: RunStatus) -> set[str]:
    """What can be done with a run in its state: names of `ACTIONS`, and "extend"."""
    if status.state == "queued":
        return {"discard"}
    if status.is_active:
        return {"keep_best", "keep_latest", "discard"}
    possible = {"discard"}
    if status.state != "done" and status.step < status.steps:
        possible.add("resume")
    if status.state in ("done", "stopped"):
        possible.add("extend")
    assert possible - {"extend"} <= set(ACTIONS)
    return possible


def prompt_of(status: RunStatus) -> str:
    return (status.config or {}).get("sample_prompt", "")
