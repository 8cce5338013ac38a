"""One run's process, and the same work in slices of time."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpt2.errors import UserError
from gpt2.folder import load_model
from service import ipc, worker
from service.submit import create_run
from service.worker import PAUSED, train_slice
from tests.support.toy_runs import LIMITS, LONG, QUICK, make_request
from train.memorization import Memorization
from train.run_folder import Progress, RunFolder
from train.states import RunState
from train.trainer import Trainer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def begin(tmp_path, base, no_probe):
    """A function that makes a run folder that nobody trains yet."""

    def begin(name="run", changes=QUICK, **limits):
        path = tmp_path / name
        given = make_request(base, changes)
        create_run(given, path, path, "owner", replace(LIMITS, **limits), lambda size: None)
        return RunFolder(path)

    return begin


def exhaust(run, seconds=1e9):
    return list(train_slice(run.path, seconds))


def weights(run):
    return torch.cat([p.flatten() for p in load_model(run.model, "cpu")[0].parameters()])


@contextmanager
def process(run):
    command = [sys.executable, "-m", "service.worker", str(run.path)]
    started = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def test_slices_make_the_run_that_was_never_cut(begin):
    whole = begin("whole", QUICK | {"steps": 30})
    exhaust(whole)
    sliced = begin("sliced", QUICK | {"steps": 30})
    slices, steps = 0, []
    while sliced.state().state != "done":
        steps += [progress.step for progress in train_slice(sliced.path, 0.02)]
        slices += 1
        if sliced.state().state != "done":
            assert sliced.state().cause == PAUSED
            assert sliced.checkpoints.steps()[-1] == sliced.state().step
            assert ipc.lock_owner(sliced.path) is None
        assert slices < 200
    assert slices > 2
    assert steps == list(range(31))
    assert torch.equal(weights(sliced), weights(whole))
    assert [p.loss for p in sliced.progress()] == [p.loss for p in whole.progress()]
    assert sliced.samples() == whole.samples()


def test_a_slice_that_is_dropped_lets_go_of_the_run(begin):
    """A visitor's request may end at any yield."""
    run = begin()
    slice_ = train_slice(run.path, 1e9)
    next(slice_)
    assert ipc.lock_owner(run.path) == os.getpid()
    slice_.close()
    assert ipc.lock_owner(run.path) is None
    exhaust(run)
    assert run.state().state == "done"


def test_only_one_process_trains_a_run(begin, monkeypatch):
    run = begin()
    monkeypatch.setattr(ipc.run_lock.__wrapped__, "__defaults__", (0.1,))
    with ipc.run_lock(run.path), pytest.raises(UserError, match="Another process"):
        exhaust(run)
    assert run.state().state == "preparing"


@pytest.mark.parametrize("keep", ["best", "latest"])
def test_a_stop_request_ends_it_with_a_model(begin, keep):
    run = begin(changes=QUICK | {"learning_rate": 0.1, "steps": 500, "evaluate_every": 10})
    for progress in train_slice(run.path, 1e9):
        if progress.step == 25:
            ipc.write(run.path, ipc.Stop(keep))
    state = run.state()
    assert (state.state, state.step) == ("stopped", 25)
    assert not ipc.exists(run.path, ipc.Stop)
    best = min(
        (p for p in run.progress() if p.validation_loss is not None),
        key=lambda p: p.validation_loss,
    ).step
    saved = run.checkpoints.load(best if keep == "best" else 25).model
    kept = load_model(run.model, "cpu")[0].state_dict()
    assert all(torch.equal(saved[name], kept[name]) for name in saved)


def test_the_term_signal_saves_a_model_and_leaves(begin):
    run = begin(changes=LONG)
    with process(run) as started:
        wait_until(lambda: max(run.checkpoints.steps(), default=0) >= 10)
        beat = ipc.read(run.path, ipc.Beat)
        assert beat.pid == started.pid == ipc.lock_owner(run.path)
        assert os.getpriority(os.PRIO_PROCESS, started.pid) >= 10
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0
    state = run.state()
    assert state.state == "stopped"
    assert "The server asked it to stop" in state.cause
    assert load_model(run.model)
    assert not ipc.exists(run.path, ipc.Ticket)


def test_the_heart_beats_during_a_long_step(tmp_path, monkeypatch):
    monkeypatch.setattr(ipc, "_BEAT_SECONDS", 0.02)
    with ipc.Heartbeat(tmp_path) as heartbeat:
        heartbeat.phase(RunState.EVALUATING)
        first = ipc.read(tmp_path, ipc.Beat)
        assert first.phase == RunState.EVALUATING
        wait_until(lambda: ipc.read(tmp_path, ipc.Beat).time > first.time)


def test_a_dead_process_holds_nothing(begin):
    run = begin(changes=LONG)
    assert ipc.lock_owner(run.path) is None
    with process(run) as started:
        wait_until(lambda: ipc.lock_owner(run.path) == started.pid)
        started.kill()
        started.wait()
    assert ipc.lock_owner(run.path) is None
    assert (run.path / ipc.LOCK).read_text() == str(started.pid)


def test_a_dead_processes_unfinished_files_are_no_harm(begin):
    run = begin()
    (run.path / "checkpoints" / ".tmp-step-3").mkdir()
    (run.path / ipc.FILES[ipc.Beat]).write_text("{")
    assert ipc.read(run.path, ipc.Beat) == ipc.Beat()
    exhaust(run)
    assert run.state().state == "done"


def failing(error):
    def fail(*given, **more):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "Out of memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (UserError("The tokens are gone."), "The tokens are gone."),
        (ZeroDivisionError("x"), r"unexpected error \(ZeroDivisionError\)"),
    ],
)
def test_every_failure_says_its_cause_and_what_to_do(begin, monkeypatch, capsys, error, words):
    run = begin()
    monkeypatch.setattr(Trainer, "_measure", failing(error))
    ipc.write(run.path, ipc.Stop("best"))
    exhaust(run)
    state = run.state()
    assert state.state == "failed"
    assert re.search(words, state.cause)
    assert ipc.lock_owner(run.path) is None
    assert not ipc.exists(run.path, ipc.Stop)
    assert ("ZeroDivisionError" in capsys.readouterr().err) == isinstance(error, ZeroDivisionError)
    monkeypatch.undo()
    exhaust(run)
    assert run.state().state == "done"


def test_not_finite_weights_fail_with_their_cause(begin):
    run = begin(changes=QUICK | {"learning_rate": 0.1, "gradient_clip": 0.0, "steps": 20})

    def broken(trainer):
        raise worker.TrainingFailed("At step 3 the loss was not finite again.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", broken)
        exhaust(run)
    assert run.state().cause == "At step 3 the loss was not finite again."
    assert run.checkpoints.steps() == [0]


def test_patience_is_told(begin):
    settings = {"learning_rate": 0.1, "patience": 2, "steps": 1000, "evaluate_every": 2}
    run = begin(changes=QUICK | settings)
    exhaust(run)
    assert run.state().state == "done"
    assert "Stopped early at step" in run.state().cause


def test_no_text_in_the_log_and_the_phases_in_turn(begin, monkeypatch):
    run = begin()
    phases = []
    monkeypatch.setattr(ipc.Heartbeat, "phase", lambda self, name: phases.append(name))
    exhaust(run)
    assert set(phases) == {"training", "evaluating", "sampling", "saving"}
    assert phases[:3] == ["evaluating", "sampling", "saving"]
    assert ipc.log_tail(run.path) is None
    assert ipc.read(run.path, Memorization).share_of_8_grams >= 0
    assert ipc.read(run.path, ipc.Measured).words == "window 16, stride 16, float32"


def test_only_so_many_validation_tokens_are_measured_as_planned(begin):
    run = begin(changes=QUICK | {"validation_share": 0.5})
    planned = ipc.read(run.path, ipc.Order).validation_tokens
    assert planned < (run.tokens / "valid.bin").stat().st_size / 2
    limited = worker._limited(worker.existing_job(run.path, worker.World(), ()))
    assert len(limited.data.validation) == planned


def test_progress_is_yielded_after_it_is_on_disk(begin):
    run = begin()
    for progress in train_slice(run.path, 1e9):
        assert isinstance(progress, Progress)
        assert run.progress()[-1] == progress
