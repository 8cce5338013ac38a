"""python -m train as its users call it: real processes, signals, broken calls."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gpt2.errors import UserError
from gpt2.folder import load_model
from train.__main__ import main
from train.config import TrainConfig, with_changes
from train.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
TINY = [
    "--preset",
    "shakespeare-char-cpu",
    "--steps",
    "30",
    "--batch-size",
    "4",
    "--micro-batch-size",
    "4",
    "--block-size",
    "16",
    "--evaluate-every",
    "10",
    "--sample-every",
    "10",
    "--save-every",
    "5",
    "--precision",
    "float32",
    "--dropout",
    "0.1",
]


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("It is a truth universally acknowledged, that a text must be long. " * 100)
    return file


def start(*arguments: object) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "train", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def call(*arguments: object) -> tuple[int, str, str]:
    process = start(*arguments)
    out, error = process.communicate(timeout=300)
    return process.returncode, out, error


def wait_for_step(run: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "checkpoints" / f"step-{step}").exists():
            return
        time.sleep(0.01)
    pytest.fail(f"step {step} never came: {process.communicate()[1]}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    file = folder / "text.txt"
    file.write_text("It is a truth universally acknowledged, that a text must be long. " * 100)
    status, out, error = call("run", "--data", file, "--out", folder / "run", "--json", *TINY)
    assert status == 0, error
    return RunFolder(folder / "run"), out


def assert_same_result(run: Path, expected: RunFolder) -> None:
    ours, theirs = RunFolder(run).checkpoints.load(30), expected.checkpoints.load(30)
    for part in ("model", "optimizer"):
        for name, tensor in getattr(theirs, part).items():
            assert torch.equal(getattr(ours, part)[name], tensor), name
    assert [p.loss for p in RunFolder(run).progress()] == [p.loss for p in expected.progress()]


def test_json_is_one_object_a_line_and_the_result_is_a_model_folder(undisturbed):
    run, out = undisturbed
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["step"] for line in lines] == list(range(31))
    names = {
        "step",
        "loss",
        "validation_loss",
        "learning_rate",
        "gradient_norm",
        "tokens_per_second",
    }
    assert names <= set(lines[0])
    assert lines[-1]["validation_loss"] < lines[0]["validation_loss"]
    assert run.state().state == "done"
    assert [sample.step for sample in run.samples()] == [0, 10, 20, 30]
    model, tokenizer = load_model(run.model)
    assert model.config.n_positions == 64
    assert tokenizer.encode("truth")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves_and_the_run_goes_on_exactly(
    undisturbed, text, tmp_path, number, status
):
    run = tmp_path / "run"
    process = start("run", "--data", text, "--out", run, *TINY)
    wait_for_step(run, 5, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == status, error
    assert RunFolder(run).state().state == "stopped"
    assert load_model(run / "model")
    status, _, error = call("run", "--out", run, "--resume")
    assert status == 0, error
    assert_same_result(run, undisturbed[0])


def test_a_killed_run_goes_on_exactly(undisturbed, text, tmp_path):
    run = tmp_path / "run"
    process = start("run", "--data", text, "--out", run, *TINY)
    wait_for_step(run, 10, process)
    process.kill()
    process.communicate()
    status, _, error = call("run", "--out", run, "--resume")
    assert status == 0, error
    assert_same_result(run, undisturbed[0])


def test_a_finished_run_is_continued_for_more_steps(undisturbed, tmp_path):
    finished, _ = undisturbed
    run = shutil.copytree(finished.path, tmp_path / "run")
    status, out, error = call("run", "--out", run, "--resume", "--steps", 35)
    assert status == 0, error
    assert "step 35" in out
    assert RunFolder(run).state().step == 35
    assert RunFolder(run).description().train.steps == 35  # what a crash would be resumed to
    status, _, error = call("run", "--out", run, "--resume", "--steps", 40, "--learning-rate", 0.5)
    assert status == 2
    assert "learning_rate was 0.006" in error


def test_a_model_is_trained_further_with_lora(undisturbed, text, tmp_path):
    run = tmp_path / "run"
    more = ["--steps", 3, "--lora-rank", 2, "--block-size", 16, "--evaluate-every", 1]
    base = undisturbed[0].model
    status, out, error = call("run", "--data", text, "--model", base, "--out", run, *more)
    assert status == 0, error
    assert "perplexity" in out
    tuned, _ = load_model(run / "model")
    before, _ = load_model(base)
    changed = {
        n for n, p in tuned.named_parameters() if not torch.equal(p, before.get_parameter(n))
    }
    assert changed
    assert all("c_" in name for name in changed)
    assert (run / "adapter" / "adapter_config.json").exists()


def test_evaluate_reports_what_training_reports(undisturbed, tmp_path):
    run, _ = undisturbed
    corpus = run.path.parent / "text.txt"
    tail = corpus.read_text()[int(len(corpus.read_text()) * 0.9) :]
    (tmp_path / "tail.txt").write_text(tail)
    arguments = ["--model", run.model, "--data", tmp_path / "tail.txt", "--json"]
    status, printed, error = call("evaluate", *arguments)
    assert status == 0, error
    result = json.loads(printed)
    assert set(result) >= {"loss", "perplexity", "bits_per_byte", "tokens"}
    assert result["tokens"] == len(tail) - 1
    assert result["loss"] < 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "{new}"], "--data FILE"),
        (["--out", "{new}", "--data", "missing.txt", "--preset", "storyteller"], "no file missing"),
        (["--out", "{new}", "--data", "{text}"], "--model NAME"),
        (["--out", "{new}", "--data", "{text}", *TINY, "--model", "x/y"], "--model NAME"),
        (["--out", "{old}", "--data", "{text}", *TINY], "--resume"),
        (["--out", "{new}", "--resume"], "not a run folder"),
        (["--out", "{new}", "--data", "{text}", *TINY, "--learning-rate", "nan"], "learning_rate"),
        (["--out", "{new}", "--data", "{text}", *TINY, "--dropout", "1"], "dropout"),
        (
            ["--out", "{new}", "--data", "{text}", *TINY, "--steps", "many"],
            "steps must be a whole number",
        ),
        (["--out", "{new}", "--data", "{empty}", *TINY], "The text is empty"),
        (["--out", "{new}", "--data", "{short}", *TINY], "fewer than two"),
    ],
)
def test_a_wrong_call_is_one_clear_line(text, tmp_path, call_here, arguments, message):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").touch()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "short.txt").write_text("a")
    names = {name: tmp_path / name for name in ("new", "old")} | {"text": text}
    names |= {name: tmp_path / f"{name}.txt" for name in ("empty", "short")}
    filled = [str(argument).format(**names) for argument in arguments]
    status, out, error = call_here(main, "run", *filled)
    assert (status, out) == (2, "")
    assert message in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("flag", ["--data", "--model", "--column"])
def test_what_has_no_effect_beside_resume_is_refused(flag, tmp_path, call_here):
    """The old text was trained on, without a word."""
    status, _, error = call_here(main, "run", "--out", str(tmp_path), "--resume", flag, "x")
    assert status == 2
    assert f"{flag} has no effect beside --resume" in error


def test_a_smaller_batch_alone_takes_the_micro_batch_along():
    """The usual advice against running out of memory was refused for a flag never given."""
    config = with_changes(TrainConfig(), {"batch_size": 4})
    assert (config.batch_size, config.micro_batch_size) == (4, 4)
    assert with_changes(TrainConfig(), {"batch_size": 64}).micro_batch_size == 8
    with pytest.raises(UserError, match="at most batch_size"):
        with_changes(TrainConfig(), {"batch_size": 4, "micro_batch_size": 8})
