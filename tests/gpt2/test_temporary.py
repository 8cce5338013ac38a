"""One temporary folder, swept by one sweep."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gpt2.temporary import (
    Temporary,
    new_temp_folder,
    sweep_temp,
    temp_folder,
    temp_part,
    temp_root,
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def age(path: Path, seconds: float) -> Path:
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_the_root_is_our_own(place):
    root = temp_root()
    assert root.stat().st_mode & 0o777 == 0o700
    root.rmdir()
    root.symlink_to(place)  # laid by somebody else
    other = temp_root()
    assert other != root
    assert other.stat().st_mode & 0o777 == 0o700
    assert temp_root() == other, "it was a new one at each call, and none was ever swept"
    root.unlink()
    root.write_text("a file")
    assert temp_root() == other


def test_a_new_folder_is_its_owners_and_cannot_be_guessed():
    first, second = (new_temp_folder(Temporary.UPLOADS) for _ in range(2))
    assert first.parent == second.parent == temp_root() / "uploads"
    assert len({first.name, second.name}) == 2
    assert len(first.name) == 32
    assert first.stat().st_mode & 0o777 == 0o700
    with temp_folder(Temporary.PUSH) as folder:
        (folder / "model").mkdir()
    assert not folder.exists()


@pytest.mark.parametrize("part", Temporary)
def test_each_part_is_swept_when_its_time_is_over(part):
    old, new = (new_temp_folder(part) for _ in range(2))
    file, kept = temp_part(part) / "tmp1", temp_part(part) / "tmp2"
    for path in (file, kept):
        path.write_text("x")
    age(old, part.seconds + 60)
    age(file, part.seconds + 60)
    for path in (new, kept):
        age(path, part.seconds - 60)
    sweep_temp()
    assert {path.name for path in temp_part(part).iterdir()} == {new.name, kept.name}
    sweep_temp(0)
    assert not any(temp_part(part).iterdir())


def test_what_lies_beside_the_parts_and_behind_links_is_left_alone(place):
    mine = place / "mine"
    mine.mkdir()
    age(mine, 1e9)
    (temp_part(Temporary.PAGE) / "link").symlink_to(mine)
    sweep_temp(0)
    assert mine.is_dir()


def test_a_server_sweeps_while_it_runs(monkeypatch):
    """An upload was kept for ever where no other came after it."""
    from ui.surroundings import keep_swept

    left = age(new_temp_folder(Temporary.UPLOADS), 4000)
    keep_swept(every=0.02)
    deadline = time.monotonic() + 10
    while left.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
