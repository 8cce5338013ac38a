"""The app for tests: a tiny model's folder, and the whole server inside this process.

Inside, so that a test can count what the model really computes. Nothing in the app knows about it:
the counter replaces one function of `service.engine`.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
import torch

from gpt2.folder import save_model
from gpt2.model import GPT2, ModelConfig
from gpt2.temporary import temp_folder
from gpt2.tokenizer import gpt2_tokenizer
from service import engine
from service.limits import Limits
from service.runs import Runs
from ui.health import health_route
from ui.models import Models
from ui.page import build_page, launch_settings
from ui.surroundings import downloads_folder

WINDOW = 64
NOWHERE = "http://127.0.0.1:9"  # the Hub's address in tests: nothing answers there


def make_tiny_model(folder: Path) -> Path:
    """A random model of GPT-2's vocabulary: what it writes is nonsense in every script."""
    torch.manual_seed(0)
    shape = ModelConfig(vocab_size=50257, n_positions=WINDOW, n_embd=16, n_layer=2, n_head=2)
    save_model(folder, GPT2(shape).eval(), gpt2_tokenizer())
    return folder


@dataclass
class Forwards:
    """How many forwards were run; `pause` makes each as slow as a large model's."""

    count: int = 0
    pause: float = 0.0

    def after_quiet(self, seconds: float = 0.5) -> int:
        """The count once the model has stood still for `seconds`. Fails if it never does."""
        deadline = time.monotonic() + 15
        seen, since = self.count, time.monotonic()
        while time.monotonic() - since < seconds:
            assert time.monotonic() < deadline, f"still computing: {self.count} forwards"
            if self.count != seen:
                seen, since = self.count, time.monotonic()
            time.sleep(0.02)
        return seen

    def wait_for(self, count: int) -> None:
        """Until so many have been run."""
        wait_until(lambda: self.count >= count, f"{count} forwards")


@dataclass
class Server:
    url: str
    models: Models
    runs: Runs
    page: gr.Blocks
    forwards: Forwards = field(default_factory=Forwards)

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def serve(given: str, monkeypatch, runs: Runs | None = None, limits: Limits = Limits()):  # noqa: B008
    """The app as `app.py` starts it, on a free port, beginning with the model `given`; `runs`
    stands in for the real ones, which otherwise live in a folder of their own. A `Server`."""
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setattr(
        "gpt2.hub.resolve._cached", lambda repository: None
    )  # not this machine's downloads
    with temp_folder() as aside:
        runs = runs or Runs(aside, limits, downloads_folder())
        models = Models(given, runs=runs)
        page = build_page(models, models.start(), runs, limits)
        forwards = Forwards()
        monkeypatch.setattr(engine, "step_rows", _counted(forwards))
        health = health_route(page, runs, models.start().choice.title)
        settings = launch_settings(routes=[health]) | {"prevent_thread_lock": True, "quiet": True}
        _, url, _ = page.launch(server_name="127.0.0.1", **settings)
        try:
            yield Server(url.rstrip("/"), models, runs, page, forwards)
        finally:
            page.close(verbose=False)
            runs.close(kill=True)


def _counted(forwards: Forwards) -> Callable:
    real = engine.step_rows

    def step_rows(*arguments):
        forwards.count += 1
        time.sleep(forwards.pause)
        return real(*arguments)

    return step_rows


def wait_until(true: Callable[[], bool], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)
