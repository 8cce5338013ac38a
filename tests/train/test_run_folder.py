"""Checkpoints that are there entirely or not at all."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from gpt2.errors import UserError
from train.checkpoint import Checkpoint, DiskFull
from train.run_folder import Progress, RunDescription, RunFolder
from train.states import RunState


def checkpoint(step):
    return Checkpoint(
        step,
        {"w": torch.full((4, 4), float(step))},
        {"w|exp_avg": torch.ones(4, 4)},
        {"step": step},
    )


@pytest.fixture
def run(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.describe(RunDescription(base=None))
    return run


def test_what_is_saved_is_loaded(run):
    run.checkpoints.save(checkpoint(3))
    loaded = run.checkpoints.newest()
    assert loaded.step == 3
    assert torch.equal(loaded.model["w"], torch.full((4, 4), 3.0))
    assert loaded.trainer == {"step": 3}


def test_a_folder_with_something_in_it_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="--resume"):
        RunFolder.create(tmp_path)
    with pytest.raises(UserError, match="not a run folder"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "trainer.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(run, file, damage):
    run.checkpoints.save(checkpoint(1))
    run.checkpoints.save(checkpoint(2))
    path = run.path / "checkpoints" / "step-2" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[:-1])
    assert run.checkpoints.newest().step == 1


def test_a_checkpoint_without_its_manifest_does_not_count(run):
    run.checkpoints.save(checkpoint(1))
    (run.path / "checkpoints" / "step-1" / "manifest.json").unlink()
    assert run.checkpoints.newest() is None


def test_leftovers_of_a_crash_inside_a_save_are_swept(run):
    run.checkpoints.save(checkpoint(1))
    aside = run.path / "checkpoints" / ".tmp-step-2"
    aside.mkdir()
    (aside / "model.safetensors").write_bytes(b"half")
    assert run.checkpoints.newest().step == 1
    assert not aside.exists()


@pytest.mark.parametrize(
    "call", ["train.checkpoint.save_file", "train.checkpoint._fingerprint", "gpt2.files.sync"]
)
def test_a_full_disk_leaves_the_last_checkpoint_and_says_what_is_needed(run, monkeypatch, call):
    run.checkpoints.save(checkpoint(1))

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(call, full)
    with pytest.raises(DiskFull, match=r"needs about 1 MB.*make room and resume"):
        run.checkpoints.save(checkpoint(2))
    monkeypatch.undo()
    assert run.checkpoints.steps() == [1]
    assert run.checkpoints.newest().step == 1
    assert list((run.path / "checkpoints").glob(".tmp*")) == []


def test_a_disk_too_full_for_a_line_of_the_log_is_told_like_one_too_full_for_a_checkpoint(
    run, monkeypatch
):
    """It ended the run with a traceback: only checkpoints were thought of."""

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    run.add_progress(Progress(1, 1.0, None, 0.1, 1.0, 10.0))
    monkeypatch.setattr(Path, "write_text", full)
    for write in (
        lambda: run.set_state(RunState.TRAINING, 1),
        lambda: run.forget_after(0),
    ):
        with pytest.raises(DiskFull, match=r"log of the run.*make room and resume"):
            write()
    monkeypatch.setattr("builtins.open", full)
    for write in (
        lambda: run.add_progress(Progress(3, 1.0, None, 0.1, 1.0, 10.0)),
        lambda: run.add_sample(3, "text"),
    ):
        with pytest.raises(DiskFull, match=r"log of the run.*make room and resume"):
            write()


def test_logs_forget_what_was_undone_and_survive_a_torn_line(run):
    for step in range(5):
        run.add_progress(Progress(step, 1.0, None, 0.1, 1.0, 10.0))
        run.add_sample(step, "text")
    with open(run.path / "progress.jsonl", "a") as file:
        file.write('{"step": 5, "lo')
    assert [p.step for p in run.progress()] == [0, 1, 2, 3, 4]
    run.forget_after(2)
    assert [p.step for p in run.progress()] == [0, 1, 2]
    assert [sample.step for sample in run.samples()] == [0, 1, 2]
    run.add_progress(Progress(3, 1.0, None, 0.1, 1.0, 10.0))
    lines = (run.path / "progress.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3]


def test_pruning_keeps_what_is_named(run):
    for step in range(1, 6):
        run.checkpoints.save(checkpoint(step))
    run.checkpoints.prune([2, 5])
    assert run.checkpoints.steps() == [2, 5]


def test_the_state_tells_who_writes_and_when(run):
    run.set_state(RunState.TRAINING, 7)
    state = run.state()
    assert (state.state, state.step) == ("training", 7)
    assert state.pid > 0
    assert state.time > 1.7e9
