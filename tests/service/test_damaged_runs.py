"""A run folder damaged in any way harms that run alone.

Every file of a run is damaged in every way of a table, then in 200 ways drawn at random. Each time
a server must start over the folder, show the run or say that it is broken, do or refuse in words
what its owner may ask for, name no folder of the server, and serve another run as ever.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpt2.errors import UserError
from service import queue
from service.ids import new_id
from service.runs import Runs
from service.status import RunStatus
from service.verdict import verdict
from service.worker import train_slice
from tests.support.toy_runs import LIMITS, QUICK, make_request, wait_for_end
from train.run_folder import RunFolder
from ui.finetune import run_html
from ui.finetune.updates import possible_actions
from ui.messages import explain

OWNER = "ab" * 16
FILES = (
    "config.json",
    "state.json",
    "order.json",
    "ticket.json",
    "stop.json",
    "lock",
    "heartbeat.json",
    "worker.log",
    "progress.jsonl",
    "samples.jsonl",
    "memorisation.json",
    "tokens/train.bin",
    "tokens/valid.bin",
    "tokens/report.json",
    "tokens/vocab.json",
    "tokens/grams.npy",
    "checkpoints/step-12/model.safetensors",
    "checkpoints/step-12/optimizer.safetensors",
    "checkpoints/step-12/trainer.json",
    "checkpoints/step-12/manifest.json",
    "model/model.safetensors",
    "model/config.json",
    "exports/step-12/model.safetensors",
)
STEP = "checkpoints/step-12"
FOLDERS = ("tokens", "checkpoints", STEP, "model", "exports", "exports/step-12", "")


@dataclass(frozen=True)
class Damage:
    name: str
    do: Callable[[Path], object]

    def __str__(self) -> str:
        return self.name


def _write(content: bytes) -> Callable[[Path], object]:
    def do(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(path)
        path.write_bytes(content)

    return do


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _cut(path: Path) -> None:
    _write(path.read_bytes()[: path.stat().st_size // 2] if path.is_file() else b"{")(path)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes() if path.is_file() else b"{}")
    if content:
        content[len(content) // 2] ^= 0x55
    _write(bytes(content))(path)


def _link_to_itself(path: Path) -> None:
    _remove(path)
    path.symlink_to(path.name)


def _pipe(path: Path) -> None:
    _remove(path)
    os.mkfifo(path)


def _folder(path: Path) -> None:
    _remove(path)
    (path / "inside").mkdir(parents=True)


def _other_types(path: Path) -> None:
    """The same names, with values that are none of theirs."""
    try:
        text = path.read_text(encoding="utf-8")
        parts = text.splitlines() if path.suffix == ".jsonl" else [text]
        records = [json.loads(part) for part in parts]
    except (OSError, ValueError):
        records = [{"state": 1, "step": "x", "keep": [], "number": {}, "phase": 7}]
    strange = [None, -1, 1e308, "x\ud800", [], {"a": {}}, True]
    written = []
    for record in records:
        names = sorted(record) if type(record) is dict else ["a"]
        written.append(json.dumps({n: strange[i % len(strange)] for i, n in enumerate(names)}))
    _write("\n".join([*written, ""]).encode())(path)


DAMAGES = (
    Damage("missing", _remove),
    Damage("empty", _write(b"")),
    Damage("cut", _cut),
    Damage("one bit", _flip),
    Damage("NUL", _write(bytes(4096))),
    Damage("a list", _write(b"[1, 2, 3]\n")),
    Damage("a number", _write(b"7\n")),
    Damage("null", _write(b"null\n")),
    Damage("an empty object", _write(b"{}\n")),
    Damage("other types", _other_types),
    Damage("deep", _write(b"[" * 100_000)),
    Damage("not UTF-8", _write(b"\xff\xfe{\xff}")),
    Damage("a huge number", _write(b'{"step": 1' + b"0" * 5000 + b', "number": -1e999}')),
    Damage("a folder", _folder),
    Damage("a link to itself", _link_to_itself),
    Damage("a pipe", _pipe),
)
TABLE = [(file, damage) for file in FILES for damage in DAMAGES]
TABLE += [(folder, DAMAGES[0]) for folder in FOLDERS]
TABLE += [(folder, damage) for folder in FOLDERS[:-1] for damage in DAMAGES[1:2] + DAMAGES[-2:]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, base, no_probe) -> Path:
    """A runs folder with an ended run in it, with every file that a run can have."""
    folder = tmp_path_factory.mktemp("whole")
    runs = Runs(folder, LIMITS)
    try:
        run = runs.create(make_request(base, QUICK), OWNER)
        assert wait_for_end(runs, run).state == "done"
        runs.model_folder(run, 12)
        path = runs.path(run)
    finally:
        runs.close(kill=True)
    return path


class Server:
    """Runs over a folder in which one run is damaged and another is whole."""

    def __init__(self, folder: Path, whole: Path, damage: Callable[[Path], object]) -> None:
        self.run, self.other = new_id(), new_id()
        folder.mkdir()
        for name in (self.run, self.other):
            shutil.copytree(whole, folder / name)
        damage(folder / self.run)
        self.said: list[str] = []
        self.folder = folder

    def live(self) -> None:
        runs = Runs(self.folder, LIMITS)
        try:
            self._live(runs)
        finally:
            runs.close(kill=True)

    def _live(self, runs: Runs) -> None:
        assert runs.status(self.other).state == "done"
        assert self.other in runs.runs_of(OWNER)
        status = self.ask(lambda: runs.status(self.run))
        assert isinstance(status, RunStatus) == os.path.isdir(self.folder / self.run)
        if status is not None:
            self.said += [str(status.message), str(status.log_tail), *status.notes]
            assert run_html.head(status, "Storyteller", verdict(status))
            assert "discard" in possible_actions(status)
        runs.runs_of(OWNER)
        for step in (None, 12):
            self.ask(lambda step=step: runs.model_folder(self.run, step))
            self.ask(lambda step=step: runs.zip_model(self.run, step))
        self.ask(lambda: runs.memorized_spans(self.run, "It is a truth universally."))
        self.ask(lambda: runs.base_folder(self.run))
        self.ask(lambda: runs.stop(self.run))
        self.ask(lambda: runs.extend(self.run, 4))
        self.ask(lambda: runs.resume(self.run))
        with runs._guard:
            runs._queue.tick()  # raises nothing: other runs are waiting
        runs._house.sweep(runs._delete)
        runs._house.require_room(1)
        self.ask(lambda: runs.discard(self.run))
        assert not os.path.lexists(self.folder / self.run)
        assert runs.status(self.other).state == "done"

    def ask(self, question: Callable[[], object]) -> object:
        """The answer, or None where it was refused in words; anything else is a fault."""
        try:
            return question()
        except UserError as error:
            self.said.append(explain(error, "asking"))
            return None


@pytest.fixture
def no_process(monkeypatch):
    """Runs whose turn comes are not trained: what a worker makes of damage is tested below."""

    def start(self, entry):
        raise BlockingIOError

    monkeypatch.setattr(queue.Queue, "_start", start)
    monkeypatch.setattr("service.runs._TICK_SECONDS", 3600)


def _check(folder: Path, whole: Path, damage: Callable[[Path], object]) -> None:
    server = Server(folder, whole, damage)
    server.live()
    for words in server.said:
        assert str(folder.parent) not in words
        assert "Traceback" not in words or "/" not in words
    shutil.rmtree(folder)


@pytest.mark.parametrize("file", dict.fromkeys(file for file, _ in TABLE))
def test_every_kind_of_damage_harms_that_run_alone(tmp_path, whole, no_process, file):
    for path, damage in TABLE:
        if path == file:
            _check(tmp_path / "runs", whole, lambda run, d=damage: d.do(run / file))


def test_200_random_damages_harm_that_run_alone(tmp_path, whole, no_process):
    """One to four files at a time: bytes changed, cut, doubled, exchanged, filled with noise."""
    for seed in range(200):
        chance = random.Random(seed)
        _check(tmp_path / "runs", whole, lambda run, chance=chance: _damage_at_random(run, chance))


def _damage_at_random(run: Path, chance: random.Random) -> None:
    files = sorted(path for path in run.rglob("*") if path.is_file())
    for path in chance.sample(files, chance.randint(1, 4)):
        content = bytearray(path.read_bytes())
        kind = chance.randrange(6)
        if kind == 0:
            content = content[: chance.randrange(len(content) + 1)]
        elif kind == 1:
            for _ in range(chance.randint(1, 20)):
                if content:
                    content[chance.randrange(len(content))] = chance.randrange(256)
        elif kind == 2:
            content = content + content
        elif kind == 3:
            content = bytearray(chance.choice(files).read_bytes())
        elif kind == 4:
            content = bytearray(chance.randbytes(chance.randrange(2000)))
        else:  # a value of a JSON file becomes another one
            text = content.decode("utf-8", errors="replace")
            other = chance.choice(["null", "-1", "1e999", '"x"', "[]", "{}", "true", "NaN"])
            found = list(re.finditer(r"(?<=: )[^,\n}]+", text)) or [None]
            if spot := chance.choice(found):
                content = bytearray(f"{text[: spot.start()]}{other}{text[spot.end() :]}".encode())
        path.write_bytes(content)


def _with_unfinished(whole: Path, folder: Path) -> Path:
    """The run as if it had been ended after its best checkpoint, to be continued."""
    run = shutil.copytree(whole, folder)
    config = json.loads((run / "config.json").read_text())
    config["train"]["steps"] = 14
    (run / "config.json").write_text(json.dumps(config))
    return run


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_run_that_is_resumed_goes_on_or_fails_in_words(tmp_path, whole, file):
    """In the worker: it trains on, from an earlier state if need be, or says why it cannot."""
    for damage in (DAMAGES[0], DAMAGES[3], DAMAGES[9]):
        run = _with_unfinished(whole, tmp_path / "run")
        damage.do(run / file)
        with suppress(UserError):  # it could not even begin: the server notes that
            for _ in train_slice(run, 1e9):
                pass
            record = RunFolder(run).state()
            assert record.state in ("done", "stopped", "failed"), (damage, record)
            assert record.state != "failed" or record.cause
            assert str(tmp_path) not in (record.cause or ""), damage
        shutil.rmtree(run)
