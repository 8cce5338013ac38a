"""Runs that outlive the machine, in a bucket that is no disk."""

from __future__ import annotations

import builtins
import os
from dataclasses import replace
from pathlib import Path

import pytest

from service import mirror as module
from service.ids import new_id
from service.mirror import Mirror
from service.runs import Runs
from tests.support.toy_runs import LIMITS, QUICK, make_request
from train.run_folder import RunFolder
from train.states import RunState

OWNER = "0" * 32


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Path:
    """As the Hub mounts one: whoever writes truncates, and nothing is written, moved or opened for
    appending twice. `lost` of the files closed last are gone in a crash."""
    folder, closed = tmp_path / "bucket", []
    folder.mkdir()

    def guarded(path, mode="r", **more):
        path = Path(path)
        if path.parent == folder and "r" not in mode:
            assert mode in ("w", "wb"), "a stream of bytes from the first on"
            assert path not in closed, "written once"
            closed.append(path)
        return builtins.open(path, mode, **more)

    def refuse(*given):
        raise PermissionError("the bucket cannot rename")

    monkeypatch.setattr(module, "open", guarded, raising=False)
    for name in ("rename", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os,
            name,
            lambda a, b, real=real: refuse() if folder in Path(b).parents else real(a, b),
        )
    return folder


def train(folder: Path, base: Path, seconds: float = 1e9, run: str = "") -> tuple[str, str]:
    """A run here, for so long; its id and state."""
    runs = Runs(folder, replace(LIMITS, running=0))
    try:
        run = run or runs.create(make_request(base, QUICK), OWNER)
        for _ in runs.slice(run, seconds):
            pass
        return run, str(runs.status(run).state)
    finally:
        runs.close()


def test_a_run_goes_on_after_the_machine_is_gone(tmp_path, bucket, base):
    run, state = train(tmp_path / "one", base, 0)
    assert state == "interrupted"
    Mirror(tmp_path / "one", bucket).copy_new()
    assert Mirror(tmp_path / "two", bucket).restore() == [run]
    whole, _ = train(tmp_path / "three", base)
    assert train(tmp_path / "two", base, run=run) == (run, "done")
    name = "model/model.safetensors"
    assert (tmp_path / "two" / run / name).read_bytes() == (
        tmp_path / "three" / whole / name
    ).read_bytes()


def test_what_has_not_changed_is_not_copied_again_and_two_copies_are_kept(tmp_path, bucket, base):
    run, _ = train(tmp_path / "runs", base, 0)
    mirror = Mirror(tmp_path / "runs", bucket)
    for _ in range(3):
        mirror.copy_new()
    assert len(list(bucket.glob("*.tar"))) == 1
    for _ in range(3):
        train(tmp_path / "runs", base, 0, run)
        mirror.copy_new()
    assert len(list(bucket.glob("*.tar"))) == len(list(bucket.glob("*.json"))) == 2


def test_a_run_that_trains_on_without_a_checkpoint_is_not_copied_again(tmp_path, bucket, base):
    """state.json is written every second, and each time the whole run was copied: gigabytes every
    few seconds for 124M."""
    run, _ = train(tmp_path / "runs", base, 0)
    mirror, folder = Mirror(tmp_path / "runs", bucket), RunFolder(tmp_path / "runs" / run)
    mirror.copy_new()
    for step in (5, 6, 7):
        folder.set_state(RunState.TRAINING, step)
        mirror.copy_new()
    assert len(list(bucket.glob("*.tar"))) == 1
    folder.set_state(RunState.STOPPED, 7)
    mirror.copy_new()
    assert len(list(bucket.glob("*.tar"))) == 2, "its end is copied"


@pytest.mark.parametrize("damage", ["no note", "no archive", "cut archive", "cut note", "other"])
def test_a_copy_that_the_crash_took_along_counts_for_nothing(tmp_path, bucket, base, damage):
    run, _ = train(tmp_path / "runs", base, 0)
    mirror = Mirror(tmp_path / "runs", bucket)
    mirror.copy_new()
    train(tmp_path / "runs", base, 0, run)
    mirror.copy_new()
    note, archive = (sorted(bucket.glob(f"*.{kind}"))[-1] for kind in ("json", "tar"))
    if damage == "no note":
        note.unlink()
    elif damage == "no archive":
        archive.unlink()
    elif damage == "other":
        archive.write_bytes(bytes(reversed(archive.read_bytes())))
    else:
        path = archive if "archive" in damage else note
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert Mirror(tmp_path / "fresh", bucket).restore() == [run]
    assert (tmp_path / "fresh" / run / "state.json").is_file()
    assert not list((tmp_path / "fresh").glob(".*"))


def test_a_run_whose_copies_are_all_broken_is_left_where_it_is(tmp_path, bucket, base):
    """Someone may mend it; it is not for us to delete."""
    train(tmp_path / "runs", base, 0)
    Mirror(tmp_path / "runs", bucket).copy_new()
    for path in bucket.glob("*.tar"):
        path.write_bytes(b"x")
    fresh = Mirror(tmp_path / "fresh", bucket)
    assert fresh.restore() == []
    fresh.copy_new()
    assert len(list(bucket.iterdir())) == 2


def test_a_discarded_run_leaves_the_bucket(tmp_path, bucket, base):
    train(tmp_path / "runs", base, 0)
    mirror = Mirror(tmp_path / "runs", bucket)
    mirror.copy_new()
    runs = Runs(tmp_path / "runs", replace(LIMITS, running=0))
    runs.delete_owner(OWNER)
    runs.close()
    mirror.copy_new()
    assert list(bucket.iterdir()) == []


def test_a_bucket_that_fails_costs_the_copy_alone(tmp_path, bucket, base, monkeypatch):
    train(tmp_path / "runs", base, 0)
    mirror = Mirror(tmp_path / "runs", bucket)
    real, broken = os.fsync, [True]

    def fsync(number):
        if broken:
            raise OSError(5, "Input/output error")
        return real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    mirror.copy_new()
    assert not list(bucket.glob("*.json"))
    broken.clear()
    mirror.copy_new()
    assert len(list(bucket.glob("*.json"))) == 1


def test_strange_files_in_a_bucket_are_left_alone(tmp_path, bucket):
    (bucket / "notes.txt").write_text("x")
    (bucket / f"{new_id()}-000000001.json").write_text("[" * 9999)
    mirror = Mirror(tmp_path / "runs", bucket)
    assert mirror.restore() == []
    mirror.copy_new()
    assert len(list(bucket.iterdir())) == 2


def test_it_works_in_the_background(tmp_path, bucket, base, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    mirror = Mirror(tmp_path / "runs", bucket)
    mirror.restore()
    mirror.start()
    train(tmp_path / "runs", base, 0)
    mirror.close()
    assert list(bucket.glob("*.json"))
