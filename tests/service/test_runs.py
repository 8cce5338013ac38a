"""Runs of many visitors: real processes, killed and found again, refused in words."""

from __future__ import annotations

import errno
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from gpt2.errors import UserError
from gpt2.folder import load_model
from service import ipc, storage
from service.ids import new_id
from service.request import RunRequest
from service.runs import Runs
from service.status import thin_progress
from service.verdict import verdict
from tests.support.toy_runs import LIMITS, LONG, QUICK, TEXT, make_request, wait, wait_for_end
from train.run_folder import Progress, RunFolder

ROOT = Path(__file__).parents[2]
OWNER = new_id()
LONGER = QUICK | {"steps": 200}


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in load_model(folder, "cpu")[0].parameters()])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, base, no_probe):
    """The status and the model of a whole run that nothing disturbed."""
    runs = Runs(tmp_path_factory.mktemp("undisturbed"), LIMITS)
    run_id = runs.create(make_request(base, LONGER), OWNER)
    yield wait_for_end(runs, run_id), runs.model_folder(run_id)
    runs.close()


def test_a_run_from_order_to_zip(open_runs, base, tmp_path):
    upload = tmp_path / "upload.txt"
    upload.write_text(TEXT)
    runs = open_runs()
    run_id = runs.create(make_request(base, file=upload, name="toy"), OWNER)
    assert not upload.exists()
    status = wait_for_end(runs, run_id)
    assert (status.state, status.message) == ("done", None), status.log_tail
    assert (status.step, status.steps, status.model, status.place) == (12, 12, "toy", None)
    assert [p.step for p in status.progress] == list(range(13))
    assert [s.step for s in status.samples] == [0, 4, 8, 12]
    assert status.best_loss < status.base_loss
    assert [c.is_best for c in status.checkpoints][-1]
    assert "fell from" in verdict(status)
    assert status.config["learning_rate"] == 3e-3
    assert status.encoding == "utf-8"
    assert status.memorization.share_of_8_grams >= 0
    assert runs.runs_of(OWNER) == (run_id,)
    spans = runs.memorized_spans(run_id, TEXT[:40] + "#####")
    assert spans == [(TEXT[:40], True), ("#####", False)]
    found = [path for path in runs.folder.rglob("*") if path.is_file()]
    assert not any(b"universally acknowledged" in path.read_bytes() for path in found)

    transformers = pytest.importorskip("transformers")
    with zipfile.ZipFile(runs.zip_model(run_id)) as archive:
        archive.extractall(tmp_path / "zip")
    (folder,) = (tmp_path / "zip").iterdir()
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    ours, _ = load_model(runs.model_folder(run_id), "cpu")
    ids = torch.arange(30)[None]
    with torch.no_grad():
        assert (theirs(ids).logits - ours(ids)).abs().max() < 1e-4
    ids = transformers.AutoTokenizer.from_pretrained(folder)("a text")["input_ids"]
    assert ids == load_model(folder, "cpu")[1].encode("a text")


def test_every_checkpoint_is_a_model(open_runs, base):
    runs = open_runs()
    run_id = runs.create(make_request(base, QUICK | {"lora_rank": 2}), OWNER)
    status = wait_for_end(runs, run_id)
    last, best = status.checkpoints[-1].step, status.best_step
    assert torch.equal(weights(runs.model_folder(run_id, best)), weights(runs.model_folder(run_id)))
    assert runs.model_folder(run_id, float(last)) == runs.model_folder(run_id, last)
    assert f"step-{last}" in runs.zip_model(run_id, last).name
    assert runs.base_folder(run_id) == base
    for step in (last + 1, -1, True, "12", "../..", float("nan"), [], 1e300):
        with pytest.raises(UserError, match=r"step must be|no checkpoint"):
            runs.model_folder(run_id, step)


def test_a_tuned_model_is_tuned_further_and_its_own_base_may_go(open_runs, base):
    runs = open_runs()
    first = runs.create(make_request(base), OWNER)
    wait_for_end(runs, first)
    second = runs.create(make_request(runs.model_folder(first), LONG), OWNER)
    wait(runs, second, lambda status: status.step >= 1)
    before = weights(runs.model_folder(first))
    runs.discard(first)
    os.kill(ipc.lock_owner(runs.path(second)), signal.SIGKILL)
    wait(runs, second, lambda status: status.state == "interrupted")
    assert torch.equal(weights(runs.base_folder(second)), before)
    runs.resume(second)
    wait(runs, second, lambda status: status.state == "training")


@pytest.mark.parametrize("keep", ["best", "latest"])
def test_stop_leaves_a_model_and_resume_goes_on(open_runs, base, keep):
    runs = open_runs()
    run_id = runs.create(
        make_request(base, LONG | {"learning_rate": 0.05, "evaluate_every": 25}), OWNER
    )
    wait(runs, run_id, lambda status: status.step >= 30)
    assert runs.status(run_id).seconds_left > 0
    runs.stop(run_id, keep)
    status = wait_for_end(runs, run_id)
    assert status.state == "stopped"
    assert status.result_ready
    assert f"You stopped it at step {status.step} of 50000" in status.message
    step = status.best_step if keep == "best" else status.step
    expected = weights(runs.model_folder(run_id, step))
    assert torch.equal(weights(runs.model_folder(run_id)), expected)
    runs.resume(run_id)
    wait(runs, run_id, lambda later: later.step > status.step)
    with pytest.raises(UserError, match="already"):
        runs.resume(run_id)
    runs.stop(run_id)
    assert wait_for_end(runs, run_id).state == "stopped"
    with pytest.raises(UserError, match="ended already"):
        runs.stop(run_id)


def test_a_killed_worker_is_interrupted_and_resumes_exactly(open_runs, base, undisturbed):
    runs = open_runs()
    run_id = runs.create(make_request(base, LONGER), OWNER)
    for step in (1, 60, 120):
        wait(runs, run_id, lambda s: s.state.is_running and s.step >= step)  # noqa: B023
        os.kill(ipc.lock_owner(runs.path(run_id)), signal.SIGKILL)
        status = wait(runs, run_id, lambda status: status.state == "interrupted")
        assert "Resume" in status.message
        runs.resume(run_id)
    status = wait_for_end(runs, run_id)
    expected, folder = undisturbed
    assert status.state == "done", status.log_tail
    assert [p.loss for p in status.progress] == [p.loss for p in expected.progress]
    assert status.samples == expected.samples
    assert torch.equal(weights(runs.model_folder(run_id)), weights(folder))


def test_an_interrupted_run_is_stopped_into_a_model(open_runs, base):
    runs = open_runs()
    run_id = runs.create(make_request(base, LONG), OWNER)
    wait(runs, run_id, lambda status: status.step >= 15)
    os.kill(ipc.lock_owner(runs.path(run_id)), signal.SIGKILL)
    wait(runs, run_id, lambda status: status.state == "interrupted")
    runs.stop(run_id, "latest")
    status = wait(runs, run_id, lambda status: status.state == "stopped")
    assert status.result_ready


SERVER = """
import sys, time
from pathlib import Path
from service import plan
from service.limits import Limits
from service.pace import Pace
from service.runs import Runs
from tests.support.toy_runs import LIMITS, make_request, QUICK
plan.find_pace = lambda *given: Pace(0.01, 0.001, 0.004)
runs = Runs(Path(sys.argv[1]), LIMITS)
for changes in (QUICK | {"steps": 200}, QUICK):
    print(runs.create(make_request(Path(sys.argv[2]), changes), sys.argv[3]), flush=True)
time.sleep(300)
"""


def test_the_server_dies_and_its_runs_do_not(open_runs, base, tmp_path, undisturbed):
    """The worker ends by itself; a new server takes over the queue."""
    arguments = [sys.executable, "-c", SERVER, str(tmp_path / "runs"), str(base), OWNER]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
    first, second = (server.stdout.readline().strip() for _ in range(2))
    folder = tmp_path / "runs" / first
    deadline = time.monotonic() + 120
    while not (folder / "progress.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(UserError, match="Another server"):
        Runs(tmp_path / "runs", LIMITS)
    server.kill()
    server.wait()
    server.stdout.close()
    assert ipc.lock_owner(folder) is not None
    runs = open_runs()
    assert set(runs.runs_of(OWNER)) == {first, second}
    assert runs.status(first).state.is_running
    queued = runs.status(second)
    assert (queued.state, queued.place) == ("queued", 1)
    assert wait_for_end(runs, first).state == "done"
    assert torch.equal(weights(runs.model_folder(first)), weights(undisturbed[1]))
    assert wait_for_end(runs, second).state == "done"


def test_a_dead_run_is_found_interrupted_by_a_new_server(open_runs, base):
    runs = open_runs()
    run_id = runs.create(make_request(base, LONG), OWNER)
    wait(runs, run_id, lambda status: status.step >= 1)
    pid = ipc.lock_owner(runs.path(run_id))
    runs.close()
    os.kill(pid, signal.SIGKILL)
    later = open_runs()
    wait(later, run_id, lambda status: status.state == "interrupted", 10)


def test_twenty_runs_of_ten_visitors_each_get_their_turn(open_runs, base, monkeypatch):
    """The queue alone, without the seconds that every process takes to start."""
    runs = open_runs(replace(LIMITS, running=0))
    owners = [new_id() for _ in range(10)]
    ids = [runs.create(make_request(base), owner) for _ in range(2) for owner in owners]
    assert [runs.status(run_id).place for run_id in ids] == list(range(1, 21))
    waits = [runs.status(run_id).wait_seconds for run_id in ids]
    assert waits == sorted(waits)
    assert waits[0] == 0 < waits[1]
    for owner in owners:
        with pytest.raises(UserError, match="You have 2 runs"):
            runs.create(make_request(base), owner)
    assert all(set(runs.runs_of(owner)) == {ids[i], ids[i + 10]} for i, owner in enumerate(owners))

    started = []
    monkeypatch.setattr(type(runs._queue), "_start", lambda queue, entry: begin(entry))

    def begin(entry):
        assert not any(other.owner == entry.owner for other in runs._queue.running())
        started.append(entry.id)
        runs._queue._running.add(entry.id)
        entry.process = Process()

    class Process:
        ended = False

        def poll(self):
            return 0 if self.ended else None

        def kill(self):
            self.ended = True

        def wait(self):
            pass

    with runs._guard:
        runs._queue._limits = replace(LIMITS, running=3)
        while len(started) < 20 or runs._queue.running():
            runs._queue.tick()
            assert len(runs._queue.running()) <= 3
            for entry in runs._queue.running()[:1]:
                ipc.remove(entry.path, ipc.Ticket)
                entry.process.ended = True
    assert sorted(started) == sorted(ids)
    assert max(Counter(started).values()) == 1
    assert started[:10] == ids[:10]


def test_no_more_than_the_server_can_hold_wait(open_runs, base):
    runs = open_runs(replace(LIMITS, running=0, waiting=2))
    first, second = (runs.create(make_request(base), new_id()) for _ in range(2))
    with pytest.raises(UserError, match="2 runs are waiting already"):
        runs.create(make_request(base), OWNER)
    runs.stop(first)
    assert runs.status(first).state == "stopped"
    assert runs.status(second).place == 1
    third = runs.create(make_request(base), OWNER)
    assert runs.status(third).place == 2
    with pytest.raises(UserError, match="no result yet"):
        runs.model_folder(third)
    with pytest.raises(UserError, match="waiting already"):
        runs.resume(first)
    runs.discard(second)
    runs.resume(first)
    assert [runs.status(run_id).place for run_id in (third, first)] == [1, 2]


def test_guessed_ids_get_nothing(open_runs, base, tmp_path):
    runs = open_runs(replace(LIMITS, running=0))
    run_id = runs.create(make_request(base), OWNER)
    odd = [None, 7, True, [], {}, "", "x", run_id[:-1], run_id.upper(), run_id + "0", f" {run_id}"]
    odd += [run_id.encode(), f"../{run_id}", f"{runs.folder}/{run_id}", "../../etc", "\0" * 32, "é"]
    guesses = [secrets.token_hex(16) for _ in range(1000)]
    before = sorted(runs.folder.rglob("*"))
    for guess in odd + guesses:
        for ask in (runs.status, runs.stop, runs.resume, runs.discard, runs.model_folder):
            with pytest.raises(UserError, match="no such run"):
                ask(guess)
        with pytest.raises(UserError, match="no such run"):
            runs.memorized_spans(guess, "")
        with pytest.raises(UserError, match="no such run"):
            runs.extend(guess, 1)
        assert runs.runs_of(guess) == ()
        assert runs.delete_owner(guess) == 0
    assert sorted(runs.folder.rglob("*")) == before
    assert runs.status(run_id).state == "queued"
    assert run_id not in str(runs.runs_of(new_id()))
    stored = ipc.read(runs.path(run_id), ipc.Order)
    assert OWNER not in str(stored)


def test_delete_my_data_ends_and_deletes_all_of_it(open_runs, base):
    runs = open_runs()
    owners = (OWNER, OWNER, new_id())
    training, _, others = (runs.create(make_request(base, LONG), owner) for owner in owners)
    wait(runs, training, lambda status: status.step >= 1)
    pid = ipc.lock_owner(runs.path(training))
    assert runs.delete_owner(OWNER) == 2
    assert not Path(f"/proc/{pid}/cmdline").exists()
    assert {p.name for p in runs.folder.iterdir() if not p.name.startswith(".")} == {others}
    assert runs.runs_of(OWNER) == ()
    wait(runs, others, lambda status: status.step >= 1)


def test_runs_expire_after_their_end_whoever_looks(open_runs, base, monkeypatch):
    """A look keeps nothing alive: who only asks every week could keep a disk full."""
    monkeypatch.setattr(storage, "SURE_SECONDS", 0.05)
    runs = open_runs(replace(LIMITS, running=0, expire_seconds=1000, download_seconds=1000))
    runs._swept = time.monotonic() + 1e6  # only when the test says so
    fresh, waiting, old = (runs.create(make_request(base), new_id()) for _ in range(3))
    for run_id in (fresh, old):
        runs.stop(run_id)
    assert runs.status(waiting).expires is None
    assert runs.status(fresh).expires > time.time() + 900
    for run_id in (waiting, old):
        os.utime(runs.path(run_id) / "state.json", (1, 1))
    assert runs.status(old).expires < time.time()
    (runs.folder / ".downloads" / "old").mkdir(parents=True)
    os.utime(runs.folder / ".downloads" / "old", (1, 1))
    (runs.folder / ".downloads" / "new").mkdir()
    runs._house.sweep(runs._delete)
    assert runs.status(old).state == "stopped"  # one look is not enough
    time.sleep(0.06)
    runs._house.sweep(runs._delete)
    assert runs.status(fresh).state == "stopped"
    assert runs.status(waiting).state == "queued"
    with pytest.raises(UserError, match="no such run"):
        runs.status(old)
    assert not (runs.folder / old).exists()
    assert [path.name for path in (runs.folder / ".downloads").iterdir()] == ["new"]


def test_a_clock_that_is_wrong_for_a_minute_deletes_nothing(open_runs, base, monkeypatch):
    """Once, a clock eight days ahead for a minute deleted every run that had ended."""
    runs = open_runs(replace(LIMITS, running=0))
    run_id = runs.create(make_request(base), OWNER)
    runs.stop(run_id)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 8 * 86_400)
    for _ in range(3):
        runs._house.sweep(runs._delete)
    monkeypatch.setattr(time, "time", real)
    runs._house.sweep(runs._delete)
    assert runs.status(run_id).state == "stopped"
    assert runs._house._expired == {}


def test_a_long_run_makes_way_and_goes_on_after_the_others(open_runs, base):
    """Bit for bit as if it had never been interrupted; its time limit goes on counting."""
    runs = open_runs(replace(LIMITS, turn_seconds=0.5))
    changes = QUICK | {"steps": 4000, "evaluate_every": 1000, "sample_every": 0}
    long = runs.create(make_request(base, changes), new_id())
    wait(runs, long, lambda status: status.step >= 10)
    short = runs.create(make_request(base), new_id())
    seen = wait(runs, long, lambda status: status.state == "queued")
    assert seen.step >= 10
    assert runs.status(short).state.is_active
    assert wait_for_end(runs, short).state == "done"
    wait(runs, long, lambda status: status.step > seen.step and status.state.is_running)
    assert not ipc.exists(runs.path(long), ipc.Yield)
    runs.stop(long)
    assert wait_for_end(runs, long).result_ready


def test_a_run_that_waits_for_its_next_turn_can_be_stopped_with_its_model(open_runs, base):
    runs = open_runs(replace(LIMITS, turn_seconds=0.3))
    long = runs.create(make_request(base, LONG), new_id())
    wait(runs, long, lambda status: status.step >= 10)
    other = runs.create(make_request(base, LONG), new_id())
    wait(runs, long, lambda status: status.state == "queued")
    runs.stop(long)
    runs.discard(other)
    status = wait_for_end(runs, long)
    assert status.state == "stopped"
    assert status.result_ready


def test_one_address_cannot_fill_the_queue_or_the_disk(open_runs, base):
    """Once, a client without an owner took all 40 places in 8 s."""
    limits = replace(LIMITS, running=0, unended_per_client=3)
    runs = open_runs(limits)
    for _ in range(3):
        runs.create(make_request(base), new_id(), "1.2.3.4")
    with pytest.raises(UserError, match="3 runs that were started from your address"):
        runs.create(make_request(base), new_id(), "1.2.3.4")
    runs.create(make_request(base), new_id(), "5.6.7.8")
    runs.create(make_request(base), new_id())
    runs.discard_all()
    runs = open_runs(replace(limits, client_disk_bytes=100), "other")
    with pytest.raises(UserError, match="from your address take 1 kB, and"):
        runs.create(make_request(base), new_id(), "1.2.3.4")


def test_a_zip_is_made_once_and_goes_with_its_run(open_runs, base):
    """Once, 20 downloads took 409 MB, and a zip outlived the run that was discarded."""
    runs = open_runs()
    run_id = runs.create(make_request(base), OWNER)
    wait_for_end(runs, run_id)
    made = {runs.zip_model(run_id) for _ in range(3)}
    assert len(made) == 1
    step = runs.zip_model(run_id, 12)
    assert step not in made
    assert run_id not in str(step)
    os.utime(RunFolder(runs.path(run_id)).model / "model.safetensors")  # trained further
    again = runs.zip_model(run_id)
    assert again not in made
    runs.discard(run_id)
    assert not any(path.exists() for path in (*made, step, again))


def test_a_full_disk_is_named_when_a_run_starts(open_runs, base, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    runs = open_runs()
    monkeypatch.setattr("service.runs.create_run", full)
    with pytest.raises(UserError, match="disk is full"):
        runs.create(make_request(base), OWNER)
    assert runs._coming == []


def test_samples_are_bounded_at_the_source_and_in_every_look(open_runs, base):
    """Once, a run with a sample every step answered each look with 345 MB."""
    runs = open_runs(replace(LIMITS, running=0))
    changes = QUICK | {"steps": 5000, "sample_every": 1}
    run_id = runs.create(make_request(base, changes), OWNER)
    status = runs.status(run_id)
    assert status.config["sample_every"] == 125
    assert any("a run here has at most 40" in note for note in status.notes)
    with open(runs.path(run_id) / "samples.jsonl", "a") as file:
        for step in range(1000):
            file.write(json.dumps({"step": step, "text": "x" * 1000}) + "\n")
    with open(runs.path(run_id) / "progress.jsonl", "a") as file:
        for step in range(1000):
            loss = abs(step - 777) / 100 if step % 7 == 0 else None
            file.write(json.dumps(asdict(Progress(step, 1.0, loss, 0.1, 1.0, 9.0))) + "\n")
    status = runs.status(run_id)
    assert len(status.samples) <= 40
    assert [status.samples[0].step, status.samples[-1].step] == [0, 999]
    assert status.best_step == 777
    assert len(runs._readers[run_id]._samples._found) <= 160


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"text_bytes": len(TEXT) - 1}, "larger than"),
        ({"disk_bytes": 100_000}, "no room for"),
        ({"free_disk_bytes": 10**18}, "no room for"),
        ({"memory_share": 1e-6}, "GB of memory"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    open_runs,
    base,
    tmp_path,
    limits,
    message,
):
    runs = open_runs(replace(LIMITS, running=0, **limits))
    upload = tmp_path / "upload.txt"
    upload.write_text(TEXT)
    for wanted in (make_request(base), make_request(base, file=upload)):
        with pytest.raises(UserError, match=message):
            runs.create(wanted, OWNER)
    assert upload.exists()
    assert [path.name for path in runs.folder.iterdir()] == [".server"]
    assert runs.runs_of(OWNER) == ()


def test_the_disk_is_promised_to_those_who_wait(open_runs, base):
    runs = open_runs(replace(LIMITS, running=0, disk_bytes=5_000_000))
    accepted = []
    while len(accepted) < 20:
        try:
            accepted.append(runs.create(make_request(base), new_id()))
        except UserError as error:
            assert "no room" in str(error)  # noqa: PT017
            break
    assert 1 <= len(accepted) <= 2  # each grows to 2 MB and more


def test_a_time_limit_stops_a_run_and_keeps_it(open_runs, base):
    runs = open_runs(replace(LIMITS, run_seconds=1))
    run_id = runs.create(make_request(base, LONG), OWNER)
    status = wait_for_end(runs, run_id)
    assert status.state == "stopped"
    assert "limit of" in status.message
    assert status.result_ready
    assert any("hours" in note for note in status.notes)


def test_a_done_run_is_continued(open_runs, base):
    runs = open_runs()
    run_id = runs.create(make_request(base), OWNER)
    wait_for_end(runs, run_id)
    with pytest.raises(UserError, match="more steps"):
        runs.resume(run_id)
    for steps in (0, -1, 1.5, True, None, "5", float("nan"), 10**9, [3]):
        with pytest.raises(UserError, match="steps must be a whole number from 1"):
            runs.extend(run_id, steps)
    runs.extend(run_id, 5)
    status = wait_for_end(runs, run_id)
    assert (status.state, status.step, status.steps) == ("done", 17, 17)
    assert [p.step for p in status.progress] == list(range(18))


def test_a_run_in_slices(open_runs, base, undisturbed):
    runs = open_runs(replace(LIMITS, running=0))
    run_id = runs.create(make_request(base, LONGER), OWNER)
    states = [runs.status(run_id).state]
    while states[-1] in ("queued", "interrupted"):
        for _ in runs.slice(run_id, 0.3):
            assert runs.status(run_id).state.is_running
        states.append(runs.status(run_id).state)
    assert set(states) == {"queued", "interrupted", "done"}
    assert torch.equal(weights(runs.model_folder(run_id)), weights(undisturbed[1]))
    with pytest.raises(UserError, match="done already"):
        next(runs.slice(run_id, 1))


def test_a_worker_that_cannot_start_fails_the_run(open_runs, base, monkeypatch):
    runs = open_runs()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    run_id = runs.create(make_request(base), OWNER)
    status = wait(runs, run_id, lambda status: status.state == "failed")
    assert "could not start" in status.message
    monkeypatch.undo()


def test_a_broken_owner_is_told_to_reload(open_runs, base):
    runs = open_runs(replace(LIMITS, running=0))
    for owner in (None, "", 5, "short", ["a"], "Z" * 32, OWNER + "0"):
        with pytest.raises(UserError, match="Reload"):
            runs.create(make_request(base), owner)
    with pytest.raises(UserError, match="request"):
        runs.create({"model": "toy"}, OWNER)
    with pytest.raises(UserError, match="keep must be one of"):
        runs.stop(runs.create(make_request(base), OWNER), "both")


def test_an_upload_may_have_any_name_and_nothing_else(open_runs, base, tmp_path):
    runs = open_runs(replace(LIMITS, running=0))
    long = tmp_path / f"{'n' * 250}.txt"
    long.write_text(TEXT)
    run_id = runs.create(RunRequest(str(base), file=long), OWNER)
    assert not long.exists()
    assert runs.status(run_id).state == "queued"
    secret = tmp_path / "secret.txt"
    secret.write_text(TEXT)
    link = tmp_path / "link.txt"
    link.symlink_to(secret)
    for file in (link, tmp_path, tmp_path / ("n" * 300 + ".txt"), Path("../../x.txt"), Path("\0")):
        with pytest.raises(UserError, match=r"not an ordinary|not there"):
            runs.create(RunRequest(str(base), file=file), OWNER)
    assert secret.exists()


def test_a_long_run_is_thinned_to_its_shape(open_runs, base):
    from train.run_folder import Progress

    points = [Progress(i, 1.0, None, 0.1, 1.0, 9.0) for i in range(10_001)]
    points = [
        replace(p, validation_loss=3 - p.step / 1e4) if p.step % 7 == 0 else p for p in points
    ]
    points[3003] = replace(points[3003], validation_loss=0.5)
    points[777] = replace(points[777], message="halved")
    kept = thin_progress(points)
    assert len(kept) <= 400
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert {points[3003], points[777]} <= set(kept)
    steps = [p.step for p in kept]
    assert steps == sorted(set(steps))
    assert max(b - a for a, b in zip(steps, steps[1:])) < 120  # noqa: RUF007


def test_a_log_is_read_on_and_read_anew_when_it_is_replaced(tmp_path):
    from service.status import _Log, thin_samples
    from train.run_folder import Sample

    def line(step):
        return json.dumps({"step": step, "text": f"text {step}"}) + "\n"

    path = tmp_path / "log.jsonl"
    log = _Log(path, Sample, thin_samples, 40)
    assert log.lines() == []
    path.write_text(line(1) + line(22)[:12])
    assert log.lines() == [Sample(1, "text 1")]
    with open(path, "a") as file:
        file.write(line(22)[12:] + "broken\n" + line(3))
    assert [sample.step for sample in log.lines()] == [1, 22, 3]
    other = tmp_path / "other"
    other.write_text("".join(map(line, (9, 8, 7, 6))))
    os.replace(other, path)
    assert [sample.step for sample in log.lines()] == [9, 8, 7, 6]
