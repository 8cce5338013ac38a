"""Which models a visitor can choose, and the loaded ones.

A visitor names a *choice*, never a path or a repository: what can be loaded is decided when the
server starts, or is the model of a run whose id they know. Generation uses only models on this
machine; downloading is up to the picker.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass

import torch

from gpt2.device import choose_device
from gpt2.errors import UserError
from gpt2.files import expand_home
from gpt2.folder import read_default_prompt
from gpt2.hub.names import size_named
from gpt2.hub.resolve import (
    DOWNLOAD_BYTES,
    STORYTELLER,
    hub_name,
    is_cached,
    is_folder,
    resolve,
)
from gpt2.inference import load_for_inference
from gpt2.machine import core_count, machine_memory
from gpt2.model import GPT2
from gpt2.tokenizer import Tokenizer
from service.engine import Engine, EngineLimits
from service.no_runs import NoRuns
from service.runs import Runs
from ui.run_model import RunModel, models_of, short_name

_MEMORY_SHARE = 0.6  # of the machine, for all loaded models together
_CACHE_SHARE = 0.1  # of that, for what one model is writing


@dataclass(frozen=True)
class Choice:
    """One row of the picker."""

    name: str  # what the picker and the API call it
    source: str  # what `resolve` accepts
    title: str
    download: float | None = None  # bytes, if it can be downloaded
    version: int = 0  # changes when a run's model is trained further

    @property
    def tells_stories(self) -> bool:
        return self.name == STORYTELLER

    @property
    def run_name(self) -> str:
        """What a run that starts from it calls its base model."""
        return self.title if self.is_run else self.name

    @property
    def is_run(self) -> bool:
        return RunModel.parse(self.name) is not None


@dataclass(frozen=True)
class Loaded:
    """A model in memory, ready to generate."""

    choice: Choice
    model: GPT2
    tokenizer: Tokenizer
    engine: Engine

    @property
    def window(self) -> int:
        return self.model.config.n_positions


class Models:
    """The choices of one server and the models it holds in memory. Safe to use from any thread.

    The most recently used models stay loaded, as many as fit in a share of the machine's memory.
    """

    def __init__(
        self,
        given: str | None = None,
        memory: float | None = None,
        runs: Runs | NoRuns | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        self._device, self._dtype = choose_device(device), dtype
        self._choices = _make_choices(given)
        self._given = given
        self._runs = runs
        self._budget = (memory or machine_memory()) * _MEMORY_SHARE
        self._loaded: OrderedDict[Choice, Loaded] = OrderedDict()
        self._guard = threading.Lock()  # held briefly, for `_loaded`
        self._loading = threading.Lock()  # one model is read at a time

    def start(self) -> Loaded:
        """Load the model to start with: the given one, else the best that needs no download."""
        if self._given is not None:
            return self.fetch(next(iter(self._choices)))
        if is_cached("124M"):
            try:
                return self.load("124M")
            except UserError as error:
                print(f"124M cannot be used ({error}); starting with the storyteller.")
        return self.load(STORYTELLER)

    @property
    def choices(self) -> tuple[Choice, ...]:
        return tuple(self._choices.values())

    def rows(self, owner: str | None = None, chosen: object = None) -> list[tuple[str, str]]:
        """The picker's rows, (words, name): the visitor's own models, then everybody's choices.
        A run's checkpoint is listed only while it is `chosen`."""
        own = models_of(self._runs, owner) if self._runs else []
        named = {model.name: title for model, title in own}
        if self._runs and (model := RunModel.parse(chosen)) and model.name not in named:
            with suppress(UserError):  # deleted in the meantime
                named[model.name] = model.title(self._runs.status(model.run))
        return [(f"{title} · my run", name) for name, title in named.items()] + [
            (self.label(choice), choice.name) for choice in self.choices
        ]

    def title_of(self, name: str) -> str:
        """The title of a run's base model, by the name that the run keeps."""
        return self._choices[name].title if name in self._choices else short_name(name)

    def public_name(self, name: str) -> str:
        """The public name of that base model: its repository on the Hub, else its title."""
        return hub_name(name) or self.title_of(name)

    def find(self, name: object) -> Choice:
        """The choice with that name, or the model of that run. `UserError` for anything else."""
        if self._runs and (wanted := RunModel.parse(name)):
            return self._find_run(wanted)
        if type(name) is not str or name not in self._choices:
            offered = ", ".join(self._choices)
            raise UserError(f"There is no such model here. Choose one of: {offered}.")
        return self._choices[name]

    def _find_run(self, wanted: RunModel) -> Choice:
        status = self._runs.status(wanted.run)
        folder = wanted.folder(self._runs)
        version = (folder / "model.safetensors").stat().st_mtime_ns
        return Choice(wanted.name, str(folder), wanted.title(status), version=version)

    def default_prompt(self, choice: Choice) -> str:
        """What the model continues where nobody gives a prompt; "" while it is not here."""
        return read_default_prompt(resolve(choice.source)) if self.is_here(choice) else ""

    def is_here(self, choice: Choice) -> bool:
        return is_cached(choice.source)

    def require_here(self, name: object) -> Choice:
        """Like `find`, but only on this machine: nothing is downloaded for a run."""
        choice = self.find(name)
        if not self.is_here(choice):
            raise UserError(f"{choice.title} is not on this machine yet. Choose it above first.")
        return choice

    def label(self, choice: Choice) -> str:
        """The picker's words: the title, and what choosing it costs."""
        if choice.name == STORYTELLER:
            return f"{choice.title} · bundled"
        if self.is_here(choice):
            return f"{choice.title} · on this machine"
        size = f"{choice.download / 1e9:.1f} GB" if choice.download else "size unknown"
        return f"{choice.title} · download, {size}"

    def fetch(self, name: object) -> Loaded:
        """Like `load`, but a model that is not on this machine is downloaded first."""
        choice = self.find(name)
        self._refuse_too_large(choice)
        if not self.is_here(choice):
            resolve(choice.source)  # outside the locks, as it may take minutes
        return self.load(name)

    def load(self, name: object) -> Loaded:
        """The chosen model, from memory or from this machine's disk."""
        return self._load(self.find(name))

    def load_base(self, run_id: str) -> Loaded:
        """The model that a run started from."""
        name = self._runs.status(run_id).model
        if name in self._choices:
            return self.load(name)
        return self._load(Choice(name, str(self._runs.base_folder(run_id)), short_name(name)))

    def _load(self, choice: Choice) -> Loaded:
        if loaded := self._get(choice):
            return loaded
        self._refuse_too_large(choice)
        if not self.is_here(choice):
            raise UserError(
                f"{choice.title} is not on this machine. Choose it in the model picker, "
                "which downloads it."
            )
        with self._loading:
            if loaded := self._get(choice):  # another visitor was faster
                return loaded
            device = str(self._device)
            model, tokenizer = load_for_inference(choice.source, device, self._dtype)
            limits = EngineLimits(cache_bytes=int(self._budget * _CACHE_SHARE))
            loaded = Loaded(choice, model, tokenizer, Engine(model, tokenizer, limits))
            self._keep(loaded)
            return loaded

    def _get(self, choice: Choice) -> Loaded | None:
        with self._guard:
            if choice in self._loaded:
                self._loaded.move_to_end(choice)
            return self._loaded.get(choice)

    def _keep(self, loaded: Loaded) -> None:
        with self._guard:
            self._loaded[loaded.choice] = loaded
            while len(self._loaded) > 1 and self._bytes() > self._budget:
                self._loaded.popitem(last=False)

    def _bytes(self) -> int:
        return sum(memory_of(loaded.model) for loaded in self._loaded.values())

    def _refuse_too_large(self, choice: Choice) -> None:
        # Running out of memory would end the whole server, so it is not tried.
        on_cpu = self._device.type == "cpu"
        if choice.download and on_cpu and choice.download > self._budget:
            raise UserError(
                f"{choice.title} needs about {choice.download / _MEMORY_SHARE / 1e9:.0f} GB of "
                "memory, more than this machine has. Choose a smaller model."
            )


def _make_choices(given: str | None) -> dict[str, Choice]:
    if given is not None and not is_folder(given):
        given = size_named(given) or given
    choices = [Choice(STORYTELLER, STORYTELLER, "Storyteller")]
    choices += [
        Choice(size, size, f"GPT-2 {size}", DOWNLOAD_BYTES[size]) for size in DOWNLOAD_BYTES
    ]
    if given is not None:
        known = [choice for choice in choices if choice.source == given]
        choices = [choice for choice in choices if choice.source != given]
        choices[:0] = known or [_given_choice(given, {choice.name for choice in choices})]
    return {choice.name: choice for choice in choices}


def _given_choice(given: str, taken: set[str]) -> Choice:
    """The model given with --model. The page and the API know a folder only by its last name."""
    name = expand_home(given).resolve().name if is_folder(given) else given
    while name in taken:
        name += " (given)"
    return Choice(name, given, name)


def memory_of(model: GPT2) -> int:
    """About how many bytes a loaded model takes; if prepacked, it has its token table twice."""
    return (model.parameter_count() + model.wte.weight.numel()) * model.wte.weight.element_size()


def describe_machine(device: str) -> str:
    """ "CPU, 2 cores", or the graphics card's name, of what `choose_device` takes."""
    chosen = choose_device(device)
    if chosen.type == "cuda":
        return torch.cuda.get_device_name(chosen)
    if chosen.type == "mps":
        return "Apple's GPU"
    cores = core_count()
    return f"CPU, {cores} core{'s' if cores != 1 else ''}"
