"""What a run leaves: try it, compare it, download it, publish it."""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator

import gradio as gr

from gpt2.errors import UserError
from gpt2.sampling import Sampling
from service.status import RunStatus
from ui.api import BROKEN, WORKER
from ui.context import LIGHT, Site
from ui.finetune import samples_html
from ui.finetune.downloads import make_download
from ui.finetune.publish import check_repository, find_token, on_space_with_login, publish
from ui.finetune.updates import RunView
from ui.generation import check_prompt
from ui.models import Loaded
from ui.run_model import RunModel
from ui.streams import stream_step
from ui.visitor import Visitor
from ui.write.history import Step

COMPARED_TOKENS = 100
WRITE_TAB = "write"  # ids of `gr.Tab`s
log = logging.getLogger(__name__)


class RunResults:
    """The handlers of the section below the samples."""

    def __init__(self, site: Site, view: RunView) -> None:
        self.site = site
        self.view = view
        self.sheet = view.sheet

    def try_it(self, kept: object, step: object) -> dict:
        """Put the checkpoint into the picker and open the Write tab; the picker then loads it."""
        try:
            model = self._model(kept, step)
            choice = self.site.models.find(model.name)
        except UserError as error:
            return {self.sheet.result: _line(str(error), True)}
        rows = self.site.models.rows(Visitor.parse(kept).owner, choice.name)
        return {
            self.site.picker.model: gr.Dropdown(choices=rows, value=choice.name),
            self.site.tabs: gr.Tabs(selected=WRITE_TAB),
            self.sheet.result: "",
        }

    def load(self, name: object, previous: str, kept: object) -> Iterator[dict]:
        """As the picker does it, for a name that this tab has put there."""
        if RunModel.parse(name) and name != previous:
            yield from self.site.picker.choose(name, previous, kept)

    def download(self, kept: object, step: object) -> dict:
        try:
            model = self._model(kept, step)
            path = make_download(self.site.runs, model.run, model.step)
        except UserError as error:
            return {self.sheet.result: _line(str(error), True)}
        except Exception:
            log.exception("a download could not be made")
            return {self.sheet.result: _line(BROKEN, True)}
        words = f"{path.name} is an ordinary model folder: transformers opens it as it is."
        return {self.sheet.file: str(path), self.sheet.result: _line(words)}

    def compare(self, kept: object, prompt: object, step: object) -> Iterator[str]:
        """Base and tuned model at the same prompt and seed, one after the other."""
        try:
            words = check_prompt(prompt)
            model = self._model(kept, step)
            status = self.site.runs.status(model.run)
            models = self.site.models
            pair = (models.load_base(model.run), models.load(model.name))
            yield from self._write_both(status, words, pair)
        except UserError as error:
            yield _line(str(error), True)
        except Exception:
            log.exception("comparing failed")
            yield _line(BROKEN, True)

    def _write_both(
        self, status: RunStatus, prompt: str, pair: tuple[Loaded, Loaded]
    ) -> Iterator[str]:
        seed = (status.config or {}).get("seed", 0)
        sampling = Sampling(max_new_tokens=COMPARED_TOKENS, seed=seed)
        texts, titles = ["", ""], [loaded.choice.title for loaded in pair]
        for index, loaded in enumerate(pair):
            for step in stream_step(loaded, Step(prompt), sampling):
                texts[index] = step.texts[0]
                yield samples_html.comparison(prompt, texts[0], [(texts[1], False)], *titles, seed)
        spans = self.site.runs.memorised_spans(status.id, texts[1])
        yield samples_html.comparison(prompt, texts[0], spans, *titles, seed)

    def push(
        self, token: str | None, kept: object, step: object, name: object, private: object
    ) -> Iterator[str]:
        try:
            if type(private) is not bool:
                raise UserError("Private must be true or false.")
            repository, model = check_repository(name), self._model(kept, step)
            base = self.site.runs.status(model.run).model
            yield _line("Publishing; this can take minutes")
            address = publish(
                self.site.runs,
                model.run,
                model.step,
                self.site.models.public_name(base),
                repository,
                token,
                private,
            )
        except UserError as error:
            yield _line(str(error), True)
        except Exception as error:
            # Without its text: a message of the network's may hold the token.
            log.error("publishing failed: %s", type(error).__name__)
            yield _line(f"Publishing failed ({type(error).__name__}). Nothing else changed.", True)
        else:
            link = html.escape(address)
            yield f'<p role="status">Published: <a href="{link}" target="_blank">{link}</a></p>'

    def _model(self, kept: object, step: object) -> RunModel:
        run = Visitor.parse(kept).run
        if run is None:
            raise UserError("There is no run on the page.")
        if type(step) is not int:
            raise UserError("Choose a checkpoint.")
        return RunModel(run, step)

    def wire(self) -> None:
        site, sheet = self.site, self.sheet
        chosen = [site.visitor, sheet.checkpoint]
        tried = sheet.try_it.click(
            self.try_it, chosen, [site.picker.model, site.tabs, sheet.result], **LIGHT
        )
        tried.then(
            self.load,
            [site.picker.model, site.picker.chosen, site.visitor],
            [site.picker.status, site.picker.model, site.picker.chosen],
            concurrency_id="models",
            api_visibility="private",
            show_progress="hidden",
        )
        heavy = {"show_progress": "hidden", "api_visibility": "private"}
        ready = sheet.download.click(
            self.download, chosen, [sheet.file, sheet.result], concurrency_id="download", **heavy
        )
        ready.then(None, [sheet.file], None, js="(file) => saveFile(file)", **heavy)
        sheet.compare.click(
            self.compare,
            [site.visitor, sheet.prompt, sheet.checkpoint],
            [sheet.compared],
            concurrency_id=WORKER,
            concurrency_limit=1,
            **heavy,
        )
        inputs = [*chosen, sheet.repository, sheet.private]
        push = self._push_signed_in if on_space_with_login() else self._push_here
        inputs = inputs if on_space_with_login() else [sheet.token, *inputs]
        sheet.push.click(push, inputs, [sheet.pushed], concurrency_id="push", **heavy)

    # Two functions because gradio gives a token to the one that asks for it, and asks the
    # visitor to sign in when there is none.

    def _push_signed_in(
        self,
        oauth: gr.OAuthToken | None,
        kept: object,
        step: object,
        name: object,
        private: object,
    ) -> Iterator[str]:
        yield from self._push_with(None, oauth.token if oauth else None, kept, step, name, private)

    def _push_here(
        self, typed: object, kept: object, step: object, name: object, private: object
    ) -> Iterator[str]:
        yield from self._push_with(typed, None, kept, step, name, private)

    def _push_with(self, typed: object, oauth: str | None, *wanted: object) -> Iterator[str]:
        try:
            token = find_token(typed, oauth)
        except UserError as error:
            yield _line(str(error), True)
            return
        yield from self.push(token, *wanted)


def _line(words: str, error: bool = False) -> str:
    return f'<p class="{"error" if error else "hint"}" role="status">{html.escape(words)}</p>'
