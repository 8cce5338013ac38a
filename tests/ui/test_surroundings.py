"""Other people's machines: proxies, variables, folders of others, places that cannot be."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from gradio_client import Client

import app
from gpt2.__main__ import main as gpt2_main
from gpt2.errors import UserError
from gpt2.temporary import temp_root
from service.limits import Limits
from service.no_runs import NoRuns, open_runs
from service.queue import Entry, Queue
from service.runs import Runs
from tests.support.app_server import serve
from tests.support.toy_runs import LIMITS
from train.__main__ import main as train_main
from ui import surroundings
from ui.address import in_address, parse_host, require_listening

ROOT = Path(__file__).parents[2]


def test_loopback_never_goes_through_a_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "intranet, localhost")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/of/another/user")
    surroundings.prepare()
    assert os.environ["no_proxy"] == "intranet,localhost,127.0.0.1,::1"
    assert os.environ["GRADIO_TEMP_DIR"].startswith(str(temp_root()))


def test_a_proxy_is_hidden_from_gradio_alone(monkeypatch):
    """It was deleted where its library was missing: downloads then went around it, which may be
    just what its owner does not want."""
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    surroundings.prepare()
    with surroundings.direct():
        assert not {"all_proxy", "HTTPS_PROXY"} & set(os.environ)
    assert os.getenv("all_proxy") == "socks5://127.0.0.1:9"  # noqa: SIM112 - its usual spelling
    assert os.getenv("HTTPS_PROXY") == "http://127.0.0.1:9"


@pytest.mark.parametrize("place", ["{file}/x", "{long}", "{loop}/x"])
@pytest.mark.parametrize(
    "command",
    [
        (train_main, "run", "--data", "{text}", "--model", "storyteller", "--out", "{place}"),
        (train_main, "run", "--data", "{place}", "--model", "storyteller", "--out", "{new}"),
        (train_main, "run", "--data", "{text}", "--model", "{place}", "--out", "{new}"),
        (train_main, "evaluate", "--data", "{place}"),
        (gpt2_main, "generate", "x", "--model", "{place}"),
        (gpt2_main, "score", "{place}"),
        (gpt2_main, "convert", "{place}", "{new}"),
        (gpt2_main, "push", "{place}", "somebody/something"),
        (app.main, "--model", "{place}", "--runs", "{new}"),
        (app.main, "--model", "storyteller", "--runs", "{place}"),
    ],
    ids=lambda command: "-".join(map(str, command[1:4])),
)
def test_a_place_that_cannot_be_is_one_line(command, place, tmp_path, monkeypatch, call_here):
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "text").write_text("It is a truth universally acknowledged. " * 50)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    names = {name: str(tmp_path / name) for name in ("file", "text", "loop", "new")}
    names["long"] = str(tmp_path / ("n" * 300))
    main, *words = command
    words = [word.format(place=place.format(**names), **names) for word in words]
    status, _, error = call_here(main, *words)
    assert (status, error.count("\n")) == (2, 1), error
    assert error.startswith("error: ")
    assert "--help shows" not in error, "the call itself is right"


@pytest.mark.parametrize(
    "command",
    [
        (gpt2_main, "generate", "x", "--model", "~no-such-user/x"),
        (gpt2_main, "push", "~no-such-user/x", "somebody/something"),
        (gpt2_main, "convert", "~no-such-user/x", "new"),
        (app.main, "--model", "~no-such-user/x", "--runs", "new"),
    ],
    ids=lambda command: command[1],
)
def test_a_home_that_nobody_has_is_one_line(command, tmp_path, monkeypatch, call_here):
    """`Path.expanduser` raises a RuntimeError, as it does for everybody in a container whose user
    the system does not know."""
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    monkeypatch.chdir(tmp_path)
    main, *words = command
    status, _, error = call_here(main, *words)
    assert (status, error.count("\n")) == (2, 1), error
    assert "--help shows" not in error, "the call itself is right"


# Where the page listens


def test_a_port_that_is_taken_or_none_is_one_line(tmp_path, call_here):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, _, error = call_here(app.main, "--port", port, "--runs", str(tmp_path))
    assert status == 2
    assert "cannot listen" in error
    assert port in error
    assert call_here(app.main, "--port", "70000")[0] == 2


@pytest.mark.parametrize("host", ["203.0.113.7", "no such name", "a" * 70, ""])
def test_a_host_that_is_not_this_machine_is_one_line(host, tmp_path, call_here):
    """Gradio tried each of a hundred ports for five seconds."""
    status, _, error = call_here(app.main, f"--host={host}", "--runs", str(tmp_path / "runs"))
    assert (status, len(error.splitlines())) == (2, 1)
    assert "cannot listen" in error
    assert not (tmp_path / "runs").exists()


def has_ipv6() -> bool:
    try:
        require_listening("::1", None)
    except UserError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("given", ["::1", "[::1]"])
def test_gradio_gets_a_host_of_version_6_as_it_wants_it(given, monkeypatch):
    class Launched(Exception):
        pass

    def launch(page, **settings):
        raise Launched(settings["server_name"])

    monkeypatch.setattr("ui.hardening.Page.launch", launch)
    monkeypatch.setattr(app, "open_runs", lambda *given: NoRuns("not needed"))
    with pytest.raises(Launched, match=r"^\[::1\]$"):
        app.serve(app.parse_arguments(["--host", given]))


def test_hosts_as_they_are_written():
    assert [parse_host(text) for text in ("::1", "[::1]", "a.b")] == ["::1", "::1", "a.b"]
    assert [in_address(host) for host in ("::1", "127.0.0.1", "a.b")] == [
        "[::1]",
        "127.0.0.1",
        "a.b",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRADIO_SERVER_PORT", "abc"),
        ("GRADIO_SERVER_PORT", "70000"),
        ("GRADIO_NUM_PORTS", "many"),
        ("TMPDIR", None),
    ],
)
def test_a_variable_that_gradio_could_not_start_with_is_one_line(name, value, tmp_path):
    environment = os.environ | {name: value or ""}
    source = "import app"
    if name == "TMPDIR":  # no place at all for temporary files
        source = (
            "import tempfile, errno\n"
            "def none(): raise FileNotFoundError(errno.ENOENT, 'No usable temporary directory')\n"
            f"tempfile.gettempdir = none\n{source}"
        )
    found = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert found.returncode == 2
    assert found.stderr.startswith("error: ")
    assert len(found.stderr.splitlines()) == 1


# A page without fine-tuning: its own folder cannot be used; one that was named is an error, above


def test_no_runs_has_the_methods_of_runs():
    """Whoever adds one to `Runs` must say what it means where there are none."""
    public = [name for name in vars(Runs) if not name.startswith("_")]
    assert [name for name in public if not hasattr(NoRuns, name)] == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EIO])
def test_a_folder_that_cannot_be_written_costs_only_the_runs(code, tmp_path, monkeypatch, capsys):
    def refuse(folder):
        raise OSError(code, os.strerror(code), str(folder / ".server"))

    monkeypatch.setattr("service.runs.claim", refuse)
    runs = open_runs(None, tmp_path / "runs", Limits())
    said = capsys.readouterr().err
    assert said.startswith("note: the page starts without fine-tuning. ")
    assert (len(said.splitlines()), str(tmp_path) in said) == (1, True)
    assert str(tmp_path) not in runs.reason
    with pytest.raises(UserError, match="Fine-tuning is off"):
        runs.create(None, "0" * 32)


def test_another_server_in_the_folder_still_ends_the_second(tmp_path):
    runs = open_runs(None, tmp_path, LIMITS)
    try:
        with pytest.raises(UserError, match="Another server"):
            open_runs(None, tmp_path, LIMITS)
    finally:
        runs.close()


def test_the_page_writes_although_its_runs_folder_is_a_file(tmp_path, monkeypatch, base):
    """It was a traceback, and no Write tab either."""
    (tmp_path / "runs").write_text("x")
    runs = open_runs(None, tmp_path / "runs", LIMITS)
    with serve(str(base), monkeypatch, runs=runs, limits=LIMITS) as server:
        client = Client(server.url, verbose=False)
        assert client.predict("It", max_new_tokens=3, api_name="/generate")
        for endpoint, given in {"start_run": "text", "run_status": "0" * 32}.items():
            with pytest.raises(Exception, match="Fine-tuning is off on this page"):
                client.predict(given, api_name=f"/{endpoint}")
        shown = str(server.get("/config"))
        assert "Fine-tuning is off on this page" in shown
        assert str(tmp_path) not in shown


# Devices


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
