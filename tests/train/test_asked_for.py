"""Nothing that was asked for is ignored: settings that follow others, that do nothing, that end a
run elsewhere; and what a run says of it."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
from dataclasses import replace

import pytest

from gpt2.errors import UserError
from train.__main__ import main
from train.config import PRESETS, TrainConfig, begin_with, with_changes
from train.optimizer import learning_rate
from train.run_folder import RunFolder

TINY = ["--preset", "shakespeare-char-cpu", "--batch-size", "4", "--block-size", "16"]
TINY += ["--evaluate-every", "4", "--sample-every", "4", "--sample-tokens", "12"]
TINY += ["--precision", "float32", "--layers", "1", "--width", "16", "--heads", "2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of eight steps, and what it said."""
    folder = tmp_path_factory.mktemp("finished")
    text = folder / "text.txt"
    text.write_text("The quick onyx goblin jumps over the lazy dwarf. " * 60)
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        arguments = ["--data", str(text), "--out", str(folder / "run"), "--steps", "8", *TINY]
        assert main(["run", *arguments]) == 0
    return folder / "run", text, out.getvalue(), error.getvalue()


@pytest.fixture
def run(finished, tmp_path):
    """A copy of that run."""
    return shutil.copytree(finished[0], tmp_path / "run")


def test_the_micro_batch_follows_the_batch_wherever_it_is_set():
    """--batch-size 4 was once refused for a flag that nobody had given; by the API it was taken."""
    scratch = PRESETS["gpt2-124M-scratch"].train
    for config in (
        replace(TrainConfig(), batch_size=4),
        TrainConfig(batch_size=4),
        with_changes(TrainConfig(), {"batch_size": 4}),
        begin_with(scratch, {"batch_size": 4}),
    ):
        assert (config.batch_size, config.micro_batch_size) == (4, 4)
    assert replace(scratch, batch_size=960).micro_batch_size == 12
    for refused in ({"micro_batch_size": 16}, {"batch_size": 4, "micro_batch_size": 8}):
        with pytest.raises(UserError, match="micro_batch_size must be at most batch_size"):
            with_changes(TrainConfig(), refused)
    with pytest.raises(UserError, match="batch_size must be a whole number"):
        with_changes(TrainConfig(), {"batch_size": "few"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora_alpha": 32.0}, "lora_alpha has no effect without low-rank updates"),
        ({"lora_targets": "c_fc"}, "lora_targets has no effect"),
        ({"schedule": "constant", "final_learning_rate": 1e-6}, "with a constant schedule"),
        ({"validation_share": 0.0, "patience": 3}, "patience has no effect where"),
        ({"validation_share": 0.0, "evaluate_every": 10}, "evaluate_every has no effect where"),
        ({"validation_share": 0.0, "split": "documents"}, "split has no effect where"),
    ],
)
def test_a_setting_that_does_nothing_beside_the_others_is_refused(changes, words):
    for take in (with_changes, begin_with):
        with pytest.raises(UserError, match=words):
            take(TrainConfig(), changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"lora_rank": 4, "lora_alpha": 32.0, "lora_targets": "c_fc"},
        {"validation_share": 0.0, "evaluate_every": 0, "patience": 0},
        {"schedule": "constant", "learning_rate": 1e-4},
        {"optimizer": "muon", "beta1": 0.8},
    ],
)
def test_settings_that_do_something_are_taken(changes):
    config = begin_with(TrainConfig(), changes)
    assert {name: getattr(config, name) for name in changes} == changes


def test_the_warmup_of_a_short_run_ends_and_no_rate_rises_towards_the_end():
    config = begin_with(TrainConfig(), {"steps": 10, "learning_rate": 1e-6})
    assert (config.warmup_steps, config.final_learning_rate) == (1, 1e-6)
    assert max(learning_rate(config, step) for step in range(10)) == 1e-6
    asked = {"steps": 10, "warmup_steps": 30, "learning_rate": 1e-6, "final_learning_rate": 1e-5}
    config = begin_with(TrainConfig(), asked)
    assert {name: getattr(config, name) for name in asked} == asked


def test_more_steps_on_resume_say_what_the_learning_rate_does(run, call_here):
    before = RunFolder(run).description().train
    status, _, error = call_here(main, "run", "--out", str(run), "--resume", "--steps", "12")
    assert status == 0, error
    old, new = learning_rate(before, 8), learning_rate(replace(before, steps=12), 8)
    words = (
        f"At step 8 the end moved from step 8 to 12: the schedule is stretched, so the learning "
        f"rate there is {new:.3g} instead of {old:.3g}, and reaches 0 at the new end."
    )
    assert words in error.splitlines()
    described = RunFolder(run).description()
    assert described.notes[-1] == words
    assert described.train.steps == 12
    rates = [p.learning_rate for p in RunFolder(run).progress()]
    assert rates[9] == new  # of step 9, the first after


def test_fewer_steps_than_are_done_are_refused(run, call_here):
    status, _, error = call_here(main, "run", "--out", str(run), "--resume", "--steps", "5")
    assert status == 2
    assert "5 steps: this run has done 8 already" in error
    assert RunFolder(run).description().train.steps == 8


def test_beside_resume_only_what_the_run_has_may_be_named(run, call_here):
    resume = ["run", "--out", str(run), "--resume"]
    status, _, error = call_here(main, *resume, "--preset", "shakespeare-char-cpu")
    assert status == 0, error
    for flags, words in [
        (["--preset", "storyteller"], "--preset has no effect beside --resume"),
        (["--model", "storyteller"], "--model has no effect"),
        (["--data", "text.txt"], f"--model {run}/model --data FILE --out NEW"),
        (["--encoding", "utf-8"], "--encoding has no effect"),
        (["--layers", "1"], "--layers has no effect"),
        (["--lora-alpha", "3"], "lora_alpha was 16.0 when this run began"),
        (["--batch-size", "2"], "batch_size was 4 when this run began"),
        (["--micro-batch-size", "8"], "micro_batch_size must be at most batch_size, 4"),
        (["--epochs", "1", "--steps", "9"], "Give --epochs or --steps"),
        (["--device", "cuda:9"], "no cuda:9 here"),
        (["--shard"], "--shard has no effect on one process"),
    ]:
        status, _, error = call_here(main, *resume, *flags)
        assert status == 2, flags
        assert words in error
        assert len(error.splitlines()) == 1


def test_epochs_are_steps_by_the_windows_of_the_text(finished, tmp_path, call_here):
    """Every token is in a window: 1.5 times through N windows in batches of 4."""
    _, text, _, _ = finished
    run = tmp_path / "run"
    more = ["--epochs", "1.5", "--validation-share", "0"]
    quiet = ["--evaluate-every", "0", "--sample-every", "0"]
    arguments = ["--data", str(text), "--out", str(run), *TINY, *quiet, *more]
    status, _, error = call_here(main, "run", *arguments)
    assert status == 0, error
    windows = math.ceil((len(text.read_text()) - 1) / 16)
    steps = math.ceil(1.5 * windows / 4)
    assert f"1.5 times through {windows:,} windows are {steps:,} steps." in error
    config = RunFolder(run).description().train
    assert config.steps == steps
    assert config.warmup_steps == steps // 10  # the preset's 100 would never end
    assert RunFolder(run).state().step == steps
    status, _, error = call_here(main, "run", "--out", str(run), "--resume", "--epochs", "2")
    assert status == 0, error
    assert RunFolder(run).state().step == math.ceil(2 * windows / 4)


@pytest.mark.parametrize("epochs", ["0", "-1", "nan", "many", "1e9"])
def test_epochs_that_cannot_be_are_refused(finished, tmp_path, call_here, epochs):
    out = tmp_path / "new"
    arguments = ["--data", str(finished[1]), "--out", str(out), *TINY, "--epochs", epochs]
    status, _, error = call_here(main, "run", *arguments)
    assert status == 2
    assert "epochs must be a number above 0" in error
    assert not out.exists()


def test_samples_and_perplexity_stand_between_the_lines_on_stderr(finished):
    run, _, out, error = finished
    told = error.splitlines()
    for sample in RunFolder(run).samples():
        start = told.index(f"step {sample.step}, a sample:")
        assert told[start + 1].startswith("    ")
        assert told[start + 1].strip()[:3] in sample.text
    measured = [p for p in RunFolder(run).progress() if p.validation_loss is not None]
    for p in measured:
        assert f"step {p.step}: perplexity {math.exp(p.validation_loss):,.2f}" in told
    assert "sample" not in out
    assert [line.split(",")[0] for line in out.splitlines()[:-1]] == [f"step {n}" for n in range(9)]


def test_under_json_a_line_has_its_sample_and_its_perplexity(finished, tmp_path, call_here):
    """One object per step, as before: who reads "loss" of every line goes on."""
    _, text, _, _ = finished
    run = tmp_path / "run"
    arguments = ["--data", str(text), "--out", str(run), "--steps", "5", *TINY, "--json"]
    status, out, error = call_here(main, "run", *arguments)
    assert status == 0, error
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["step"] for line in lines] == list(range(6))
    assert [line["step"] for line in lines if line["sample"] is not None] == [0, 4, 5]
    samples = {sample.step: sample.text for sample in RunFolder(run).samples()}
    for line in lines:
        assert line["sample"] == samples.get(line["step"])
        loss = line["validation_loss"]
        assert (line["perplexity"] is None) == (loss is None)
        assert loss is None or line["perplexity"] == pytest.approx(math.exp(loss))
    logged = (run / "progress.jsonl").read_text()
    assert "sample" not in logged  # it is in samples.jsonl, once
    assert "a sample" not in error
