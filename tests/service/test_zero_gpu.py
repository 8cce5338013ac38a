"""Texts and slices of runs on shared GPUs, by the real package `spaces` and a service of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2.errors import UserError
from gpt2.model import SIZES
from service import zero_gpu
from service.zero_gpu import explaining_refusals, slices_of
from train.config import TrainConfig

ROOT = Path(__file__).parents[2]
pytest.importorskip("spaces", reason="the package of the Hub's Spaces is not installed")


END = """
import json, os, psutil
print("SAID" + json.dumps(said), flush=True)
for child in psutil.Process().children(recursive=True):  # workers outlive a call
    child.kill()
os._exit(0)
"""


def run(source: str, folder: Path, **names: object) -> dict:
    """What the program put into `said`, in a process whose first act is to start the service."""
    program = (
        "from tests.support.zero_gpu import start\nservice = start()\nsaid = {}\n"
        + source.format(folder=folder, **names)
        + END
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = [line[4:] for line in found.stdout.splitlines() if line.startswith("SAID")]
    assert lines, found.stderr
    return json.loads(lines[0])


# The server itself may not touch CUDA, though it is told that there is some.
NO_CUDA = """
import torch
def refuse(*given): raise AssertionError("CUDA was initialized in the server")
torch.cuda.is_available, torch.cuda._lazy_init = (lambda: True), refuse
"""

APP = (
    NO_CUDA
    + """
import threading, time, urllib.request, app
from service.zero_gpu import pays_off
port = {port}
words = ["--model", {base!r}, "--port", str(port), "--runs", "{folder}/runs", "--device", "cpu"]
threading.Thread(target=app.main, args=(words,), daemon=True).start()
url = f"http://127.0.0.1:{{port}}"
for _ in range(300):
    try:
        urllib.request.urlopen(url + "/health", timeout=5).close()
        break
    except OSError:
        time.sleep(0.1)
from gradio_client import Client
client = Client(url, verbose=False)
said["text"] = client.predict("It", max_new_tokens=5, seed=3, api_name="/generate")
import service.zero_gpu as z
z._LARGE = 10
said["on gpu"] = client.predict("It", max_new_tokens=5, seed=3, api_name="/generate")
said["calls"] = len([c for c in service.calls if c.startswith("/schedule")])
service.answers.append("quota")
said["without quota"] = client.predict("It", max_new_tokens=5, seed=3, api_name="/generate")
said["started"] = any(c.startswith("/startup-report") for c in service.calls)
said["functions"] = [f["api_name"] for f in client.config["dependencies"]]
"""
)


def test_the_app_writes_small_models_by_the_cpu_and_large_ones_by_a_gpu(tmp_path, base):
    """With no quota left, by the CPU again. The same seed gives the same text each time here, where
    the "GPU" is this CPU."""
    from tests.support.app_process import free_port

    said = run(APP, tmp_path, base=str(base), port=free_port())
    assert said["text"] == said["on gpu"] == said["without quota"]
    assert said["calls"] == 1
    assert said["started"], "the Hub waits for this report before it opens the page"
    assert "advance" in said["functions"], "runs are trained inside the visitor's request"


TRAIN = (
    NO_CUDA
    + """
import os, signal
from service.runs import Runs
from dataclasses import replace
from tests.support.toy_runs import LIMITS, QUICK, make_request
from pathlib import Path
from gpt2.errors import UserError
import hashlib
runs = Runs(Path("{folder}/runs"), replace(LIMITS, running=0, device="cpu"))
changes = QUICK | {{"steps": 300, "evaluate_every": 100, "sample_every": 0}}
run = runs.create(make_request(Path({base!r}), changes), "0" * 32)
refused, seconds = [], {seconds}
def kill_workers():
    import psutil
    for child in psutil.Process().children():
        child.kill()
        child.wait()
service.answers += ["grant", "grant", "quota"]
for turn in range(60):
    if runs.status(run).state.is_ended and runs.status(run).state != "interrupted":
        break
    try:
        for count, progress in enumerate(runs.slice(run, seconds.pop(0) if seconds else 1e9)):
            if seconds == [0, 0, 0] and count == 2:  # in the middle of the second slice
                kill_workers()
    except UserError as error:
        refused.append(str(error))
    if turn == 3:  # the Space is started again, and its processes with it
        kill_workers()
        runs.close()
        runs = Runs(Path("{folder}/runs"), replace(LIMITS, running=0, device="cpu"))
status = runs.status(run)
model = runs.model_folder(run) / "model.safetensors"
said["state"], said["step"], said["refused"] = str(status.state), status.step, refused
said["slices"] = len([c for c in service.calls if c.startswith("/schedule")])
said["weights"] = hashlib.sha256(model.read_bytes()).hexdigest()
runs.close()
"""
)


def test_slices_with_a_killed_worker_and_no_quota_make_the_weights_of_one_piece(tmp_path, base):
    whole = run(TRAIN, tmp_path / "whole", base=str(base), seconds=[])
    sliced = run(TRAIN, tmp_path / "sliced", base=str(base), seconds=[0, 9, 0, 0, 0])
    assert sliced["slices"] >= 4
    assert (sliced["state"], sliced["step"]) == ("done", whole["step"])
    assert sliced["weights"] == whole["weights"]
    assert any("broke off" in words for words in sliced["refused"])
    assert any("used up" in words for words in sliced["refused"])


# What is refused, in plain words


class Refusal(Exception):
    def __init__(self, title: str, message: str = "") -> None:
        super().__init__(message)
        self.title = title


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("illegal duration", "more GPU time at once"),
        ("quota exceeded", "used up .again in 3:59:01."),
        ("pending credits exceeded", "reserved the rest"),
        ("queue timeout", "No GPU was free"),
        ("client error", "Reload the page"),
        ("worker error", "broke off"),
    ],
)
def test_refusals_are_plain_words(title, words):
    with pytest.raises(UserError, match=words), explaining_refusals():
        raise Refusal(f"ZeroGPU {title}", "60s requested vs. 3s left. Try again in 3:59:01. Or not")


def test_other_errors_stay_what_they_are():
    with pytest.raises(KeyError), explaining_refusals():
        raise KeyError("x")
    with pytest.raises(Refusal), explaining_refusals():
        raise Refusal("Something else")


def test_what_a_run_takes_is_known_before_it_starts(monkeypatch):
    from service import pace

    assert [slices_of(seconds) for seconds in (0, 29, 31, 300)] == [1, 1, 2, 10]
    monkeypatch.setattr(pace, "is_zero_gpu", lambda: True)
    found = pace.find_pace(SIZES["124M"], TrainConfig(block_size=256), 1)
    assert 0.005 < found.window < 0.5
    assert found.evaluation < found.window


def test_elsewhere_the_functions_are_what_they_are():
    assert not zero_gpu.is_zero_gpu()
    assert zero_gpu.write_on_gpu.__module__ == "service.zero_gpu"
    assert not zero_gpu.pays_off(10**9)
