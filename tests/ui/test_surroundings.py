"""Other people's machines: proxies, folders of others, paths that cannot be."""

from __future__ import annotations

import os
import socket

import pytest

import app
from gpt2.__main__ import main as gpt2_main
from gpt2.files import sweep_folder, temp_root
from service.limits import Limits
from service.queue import Entry, Queue
from train.__main__ import main as train_main
from ui import surroundings


def test_loopback_never_goes_through_a_proxy(monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "intranet, localhost")
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/of/another/user")
    monkeypatch.setattr(surroundings, "_has_socks", lambda: False)
    surroundings.prepare()
    assert os.environ["no_proxy"] == "intranet,localhost,127.0.0.1,::1"
    assert "all_proxy" not in os.environ
    assert "pip install socksio" in capsys.readouterr().err
    assert os.environ["GRADIO_TEMP_DIR"].startswith(str(temp_root()))


def test_the_temp_root_is_our_own(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = temp_root()
    assert root.stat().st_mode & 0o777 == 0o700
    root.rmdir()
    root.symlink_to(tmp_path)  # laid by somebody else
    assert temp_root() != root


def test_what_is_old_is_swept(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "old", (1, 1))
    sweep_folder(tmp_path, 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("place", ["{file}/x", "{long}", "{loop}/x"])
@pytest.mark.parametrize(
    "command",
    [
        (train_main, "run", "--data", "{text}", "--model", "storyteller", "--out", "{place}"),
        (gpt2_main, "generate", "x", "--model", "{place}"),
        (gpt2_main, "score", "{place}"),
        (app.main, "--runs", "{place}"),
    ],
)
def test_a_place_that_cannot_be_is_one_line(command, place, tmp_path, call_here):
    (tmp_path / "file").write_text("x")
    (tmp_path / "text").write_text("It is a truth universally acknowledged. " * 50)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    names = {name: str(tmp_path / name) for name in ("file", "text", "loop")}
    names["long"] = str(tmp_path / ("n" * 300))
    main, *words = command
    words = [word.format(place=place.format(**names), **names) for word in words]
    status, _, error = call_here(main, *words)
    assert (status, error.count("\n")) == (2, 1), error
    assert error.startswith("error: ")


def test_a_port_that_is_taken_or_none_is_one_line(tmp_path, call_here):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, _, error = call_here(app.main, "--port", port, "--runs", str(tmp_path))
    assert status == 2
    assert "cannot listen" in error
    assert call_here(app.main, "--port", "70000")[0] == 2


@pytest.mark.parametrize("device", ["cuda:9", "mps", "tpu"])
def test_a_device_that_is_not_here_is_one_line(device, tmp_path, call_here):
    runs = tmp_path / "runs"
    status, out, error = call_here(app.main, "--device", device, "--runs", str(runs))
    assert (status, out) == (2, "")
    assert device in error
    assert len(error.splitlines()) == 1
    assert not runs.exists()


def test_the_processes_that_train_are_told_the_device(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(
        "service.queue.subprocess.Popen", lambda words, **more: started.append(words)
    )
    queue = Queue(Limits(device="cpu"))
    queue._start(Entry("1", tmp_path, "somebody"))
    assert started[0][-3:] == [str(tmp_path), "--device", "cpu"]
