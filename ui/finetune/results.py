"""The result of a run: try it, compare it, download it, publish it."""

from __future__ import annotations

import html
from collections.abc import Iterator

import gradio as gr

from gpt2.errors import UserError
from gpt2.sampling import Sampling
from service.status import RunStatus
from ui.context import LIGHT, PageContext
from ui.finetune import samples_html
from ui.finetune.publish import (
    check_repository,
    find_token,
    is_owner,
    on_space_with_login,
    publish,
)
from ui.finetune.updates import RunView
from ui.generation import AT_ONCE, WORKER, Reader, Step, check_prompt, stream_step
from ui.messages import error_line, guard, line
from ui.models import Loaded
from ui.run_model import RunModel
from ui.visitor import Visitor

COMPARED_TOKENS = 100
WRITE_TAB = "write"  # ids of `gr.Tab`s


def _refuse_result(words: str, results: RunResults, *inputs: object) -> dict:
    return {results.panel.result: error_line(words)}


class RunResults:
    """The handlers of the section below the chart."""

    def __init__(self, context: PageContext, view: RunView) -> None:
        self.context = context
        self.view = view
        self.panel = view.panel

    @guard("trying a model", _refuse_result)
    def try_it(self, kept: object, step: object) -> dict:
        """Put the checkpoint into the picker and open the Write tab; the picker then loads it."""
        choice = self.context.models.find(self._model(kept, step).name)
        rows = self.context.models.rows(Visitor.parse(kept).owner, choice.name)
        return {
            self.context.picker.model: gr.Dropdown(choices=rows, value=choice.name),
            self.context.tabs: gr.Tabs(selected=WRITE_TAB),
            self.panel.result: "",
        }

    def load(self, name: object, previous: str, kept: object) -> Iterator[dict]:
        """What the picker does, for a name that this tab has put there."""
        if RunModel.parse(name) and name != previous:
            yield from self.context.picker.choose(name, previous, kept)

    @guard("making a download", _refuse_result)
    def download(self, kept: object, step: object) -> dict:
        model = self._model(kept, step)
        path = self.context.runs.zip_model(model.run, model.step)
        words = f"{path.name} is an ordinary model folder that transformers can open as it is."
        return {self.panel.file: str(path), self.panel.result: line(words)}

    def compare(self, request: gr.Request, *inputs: object) -> Iterator[str]:
        yield from self._compare(Reader.of(request, request.session_hash), *inputs)

    @guard("comparing", error_line)
    def _compare(self, reader: Reader, kept: object, prompt: object, step: object) -> Iterator[str]:
        """The base and the tuned model with the same prompt and seed, one after the other."""
        words, model = check_prompt(prompt), self._model(kept, step)
        status = self.context.runs.status(model.run)
        models = self.context.models
        pair = (models.load_base(model.run), models.load(model.name))
        yield from self._write_both(status, words, pair, reader)

    def _write_both(
        self, status: RunStatus, prompt: str, pair: tuple[Loaded, Loaded], reader: Reader
    ) -> Iterator[str]:
        seed = (status.config or {}).get("seed", 0)
        sampling = Sampling(max_new_tokens=COMPARED_TOKENS, seed=seed)
        texts, titles = ["", ""], [loaded.choice.title for loaded in pair]
        for index, loaded in enumerate(pair):
            for step in stream_step(loaded, Step(prompt), sampling, reader):
                texts[index] = step.texts[0]
                yield samples_html.comparison(prompt, texts[0], [(texts[1], False)], *titles, seed)
        spans = self.context.runs.memorized_spans(status.id, texts[1])
        yield samples_html.comparison(prompt, texts[0], spans, *titles, seed)

    @guard("publishing", error_line)
    def push(
        self, token: str | None, kept: object, step: object, name: object, private: object
    ) -> Iterator[str]:
        if type(private) is not bool:
            raise UserError("Private must be true or false.")
        repository, model = check_repository(name), self._model(kept, step)
        base = self.context.runs.status(model.run).model
        yield line("Publishing; this can take a few minutes")
        address = publish(
            self.context.runs,
            model.run,
            model.step,
            self.context.models.public_name(base),
            repository,
            token,
            private,
        )
        link = html.escape(address)
        yield f'<p role="status">Published: <a href="{link}" target="_blank">{link}</a></p>'

    def _model(self, kept: object, step: object) -> RunModel:
        run = Visitor.parse(kept).run
        if run is None:
            raise UserError("There is no run on this page.")
        if type(step) is not int:
            raise UserError("Choose a checkpoint.")
        return RunModel(run, step)

    def wire(self) -> None:
        context, panel = self.context, self.panel
        chosen = [context.visitor, panel.checkpoint]
        tried = panel.try_it.click(
            self.try_it, chosen, [context.picker.model, context.tabs, panel.result], **LIGHT
        )
        tried.then(
            self.load,
            [context.picker.model, context.picker.chosen, context.visitor],
            context.picker.outputs,
            concurrency_id="models",
            api_visibility="private",
            show_progress="hidden",
        )
        heavy = {"show_progress": "hidden", "api_visibility": "private"}
        ready = panel.download.click(
            self.download, chosen, [panel.file, panel.result], concurrency_id="download", **heavy
        )
        ready.then(None, [panel.file], None, js="(file) => saveFile(file)", **heavy)
        panel.compare.click(
            self.compare,
            [context.visitor, panel.prompt, panel.checkpoint],
            [panel.compared],
            concurrency_id=WORKER,
            concurrency_limit=AT_ONCE,
            **heavy,
        )
        inputs = [*chosen, panel.repository, panel.private]
        push = self._push_signed_in if on_space_with_login() else self._push_here
        inputs = inputs if on_space_with_login() else [panel.token, *inputs]
        panel.push.click(push, inputs, [panel.pushed], concurrency_id="push", **heavy)

    # Two functions, because gradio passes a token to a handler that asks for one, and asks the
    # visitor to sign in when there is none.

    def _push_signed_in(
        self,
        oauth: gr.OAuthToken | None,
        kept: object,
        step: object,
        name: object,
        private: object,
    ) -> Iterator[str]:
        token = oauth.token if oauth else None
        yield from self._push_with(None, token, False, kept, step, name, private)

    def _push_here(
        self,
        request: gr.Request,
        typed: object,
        kept: object,
        step: object,
        name: object,
        private: object,
    ) -> Iterator[str]:
        yield from self._push_with(typed, None, is_owner(request), kept, step, name, private)

    @guard("publishing", error_line)
    def _push_with(
        self, typed: object, oauth: str | None, owner: bool, *wanted: object
    ) -> Iterator[str]:
        yield from self.push(find_token(typed, oauth, owner), *wanted)
