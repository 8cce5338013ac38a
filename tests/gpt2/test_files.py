"""A folder that appears whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpt2.errors import UserError
from gpt2.files import new_folder


def names(path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def fill_and_fail(path, error: BaseException, keep: str = "") -> None:
    with new_folder(path, keep) as aside:
        (aside / "half").write_text("x")
        raise error


def test_it_appears_when_all_went_well_and_not_before(tmp_path):
    with new_folder(tmp_path / "a" / "b") as aside:
        (aside / "file").write_text("x")
        assert not (tmp_path / "a" / "b").exists()
    assert names(tmp_path / "a") == {"b"}
    assert names(tmp_path / "a" / "b") == {"file"}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as aside:
        (aside / "file").write_text("x")
    assert names(tmp_path / "empty") == {"file"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError])
def test_nothing_is_left_of_one_that_failed(error, tmp_path):
    with pytest.raises(error):
        fill_and_fail(tmp_path / "a", error("x"))
    assert names(tmp_path) == set()


def test_what_a_killed_process_left_is_not_taken_over(tmp_path):
    with new_folder(tmp_path / "a") as aside:
        left = aside
    (tmp_path / "a").rename(left)
    (left / "old").write_text("x")
    with new_folder(tmp_path / "a"):
        pass
    assert names(tmp_path / "a") == set()


def test_with_a_word_it_is_kept_for_the_next_call_with_that_word(tmp_path):
    with pytest.raises(ValueError, match="broke"):
        fill_and_fail(tmp_path / "a", ValueError("broke"), keep="x")
    with new_folder(tmp_path / "a", keep="another") as other:
        assert names(other) == set()
    (tmp_path / "a").rmdir()
    with new_folder(tmp_path / "a", keep="x") as again:
        assert names(again) == {"half"}
    assert names(tmp_path) == {"a"}


@pytest.mark.parametrize("kind", ["file", "full", "dangling link"])
def test_what_is_there_is_not_overwritten(kind, tmp_path):
    path = tmp_path / "a"
    if kind == "file":
        path.write_text("mine")
    elif kind == "full":
        path.mkdir()
        (path / "mine").write_text("mine")
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is not overwritten"), new_folder(path):
        pytest.fail("it went on")
    assert names(tmp_path) == {"a"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError(errno.EFBIG, "full")])
def test_a_full_disk_is_told(error, tmp_path):
    with pytest.raises(UserError, match=r"is full\. Make room"):
        fill_and_fail(tmp_path / "a", error)
    assert names(tmp_path) == set()


@pytest.fixture
def short_files():
    """No file may grow beyond 10,000 bytes, as with a quota."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_too_much(path: Path) -> None:
    with new_folder(path) as folder:
        save_file({"a": torch.zeros(100_000)}, folder / "model.safetensors")


def test_a_full_disk_that_safetensors_met_is_told(short_files, tmp_path):
    """Its error is not an OSError: only its text has the system's error code."""
    with pytest.raises(UserError, match=r"is full\. Make room"):
        save_too_much(tmp_path / "a")
    assert names(tmp_path) == set()
