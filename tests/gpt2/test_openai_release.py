"""Fetching a release, over real HTTP from a server that breaks off, lies and goes away."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import gpt2.openai.release
from gpt2.errors import UserError
from gpt2.openai.convert import convert
from gpt2.openai.release import RELEASE_FILES, cache_folder, fetch_release

ROOT = Path(__file__).resolve().parents[2]
DATA = "model.ckpt.data-00000-of-00001"
NOWHERE = "http://127.0.0.1:9"


class Source:
    """What the server has, what it was asked, and how it misbehaves."""

    def __init__(self) -> None:
        random = __import__("random").Random(0)
        self.files = {
            f"/774M/{name}": random.randbytes(3000 + i) for i, name in enumerate(RELEASE_FILES)
        }
        self.asked: list[tuple[str, str, str | None]] = []  # method, path, Range
        self.break_after: int | None = None  # bytes of a body
        self.ranges = True
        self.status = 200
        self.md5: dict[str, str] = {}
        self.length = True


@pytest.fixture
def source(monkeypatch):
    """The published checksums are OpenAI's; the toy's files are not."""
    source = Source()
    monkeypatch.setattr(gpt2.openai.release, "CHECKSUMS", {})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def answer(self, with_body):
            wanted = self.headers.get("Range")
            source.asked.append((self.command, self.path, wanted))
            body = source.files.get(self.path)
            if body is None or source.status != 200:
                self.send_error(404 if body is None else source.status)
                return
            begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
            begin = begin if source.ranges else 0
            self.send_response(206 if begin else 200)
            if source.length:
                self.send_header("Content-Length", str(len(body) - begin))
            if self.path in source.md5:
                self.send_header("Content-MD5", source.md5[self.path])
            self.end_headers()
            if with_body:
                self.wfile.write(body[begin:][: source.break_after])

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    source.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield source
    server.shutdown()
    server.server_close()


def test_seven_files_are_fetched_once(source, tmp_path):
    folder = fetch_release("774M", source.url, tmp_path)
    assert {path.name for path in folder.iterdir()} == set(RELEASE_FILES)
    assert len(RELEASE_FILES) == 7
    for name in RELEASE_FILES:
        assert (folder / name).read_bytes() == source.files[f"/774M/{name}"]
    source.asked.clear()
    assert fetch_release("774M", NOWHERE, tmp_path) == folder
    assert source.asked == []


def test_a_broken_connection_is_taken_up_again_where_it_broke(source, tmp_path):
    source.break_after = 1000
    folder = fetch_release("774M", source.url, tmp_path)
    assert (folder / DATA).read_bytes() == source.files[f"/774M/{DATA}"]
    ranges = [wanted for method, path, wanted in source.asked if path.endswith(DATA)]
    assert ranges == [None, None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]


def test_a_process_that_was_killed_left_a_part_that_is_used(source, tmp_path):
    (tmp_path / "774M").mkdir()
    (tmp_path / "774M" / f"{DATA}.part").write_bytes(source.files[f"/774M/{DATA}"][:2500])
    folder = fetch_release("774M", source.url, tmp_path)
    assert (folder / DATA).read_bytes() == source.files[f"/774M/{DATA}"]
    assert ("GET", f"/774M/{DATA}", "bytes=2500-") in source.asked
    assert not list(folder.glob("*.part"))


def test_a_server_that_knows_no_ranges_sends_the_whole_again(source, tmp_path):
    source.ranges = False
    (tmp_path / "774M").mkdir()
    (tmp_path / "774M" / f"{DATA}.part").write_bytes(b"x" * 2500)
    folder = fetch_release("774M", source.url, tmp_path)
    assert (folder / DATA).read_bytes() == source.files[f"/774M/{DATA}"]


def test_a_part_longer_than_the_file_is_begun_anew(source, tmp_path):
    (tmp_path / "774M").mkdir()
    (tmp_path / "774M" / f"{DATA}.part").write_bytes(b"x" * 9999)
    folder = fetch_release("774M", source.url, tmp_path)
    assert (folder / DATA).read_bytes() == source.files[f"/774M/{DATA}"]


def test_a_server_that_never_sends_a_byte_is_given_up_and_the_part_is_kept(source, tmp_path):
    source.break_after = 0
    (tmp_path / "774M").mkdir()
    part = tmp_path / "774M" / "checkpoint.part"
    part.write_bytes(source.files["/774M/checkpoint"][:17])
    with pytest.raises(UserError, match=r"failed.*run the same command to resume"):
        fetch_release("774M", source.url, tmp_path)
    assert part.read_bytes() == source.files["/774M/checkpoint"][:17]


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_file_with_another_checksum_is_removed(algorithm, source, tmp_path, monkeypatch):
    if algorithm == "md5":
        wrong = base64.b64encode(hashlib.md5(b"another").digest()).decode()
        source.md5["/774M/vocab.bpe"] = wrong
    else:
        wrong = hashlib.sha256(b"another").hexdigest()
        monkeypatch.setitem(gpt2.openai.release.CHECKSUMS, "vocab.bpe", wrong)
    with pytest.raises(UserError, match=rf"vocab\.bpe arrived damaged: its {algorithm}"):
        fetch_release("774M", source.url, tmp_path)
    assert not list((tmp_path / "774M").glob("vocab.bpe*"))


def test_a_file_with_the_right_checksums_is_kept(source, tmp_path, monkeypatch):
    raw = source.files["/774M/vocab.bpe"]
    source.md5["/774M/vocab.bpe"] = base64.b64encode(hashlib.md5(raw).digest()).decode()
    right = hashlib.sha256(raw).hexdigest()
    monkeypatch.setitem(gpt2.openai.release.CHECKSUMS, "vocab.bpe", right)
    assert (fetch_release("774M", source.url, tmp_path) / "vocab.bpe").read_bytes() == raw


def test_the_data_file_of_124m_must_have_its_published_length(source, tmp_path):
    files = {path.replace("774M", "124M"): raw for path, raw in source.files.items()}
    source.files = files
    with pytest.raises(UserError, match="has 3,006 bytes; the released file has 497,759,232"):
        fetch_release("124M", source.url, tmp_path)


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_an_answer_that_is_an_error_is_told(status, source, tmp_path):
    source.status = status
    with pytest.raises(UserError, match=f"answers {status}"):
        fetch_release("774M", source.url, tmp_path)


def test_a_page_in_place_of_a_file_is_refused(source, tmp_path):
    source.length = False
    with pytest.raises(UserError, match="does not say how long"):
        fetch_release("774M", source.url, tmp_path)


@pytest.mark.parametrize("url", [NOWHERE, "http://no-such-host.invalid", "nonsense", "ftp://x"])
def test_offline_is_one_clear_line_at_once(url, tmp_path):
    started = time.monotonic()
    with pytest.raises(UserError, match="cannot be reached") as refused:
        fetch_release("774M", url, tmp_path)
    assert time.monotonic() - started < 10
    assert "convert a directory" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_server_that_does_not_answer_is_given_up(tmp_path, monkeypatch):
    """The server accepts the connection and says nothing."""
    import socket

    monkeypatch.setattr(gpt2.openai.release, "HEAD_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match="cannot be reached"):
            fetch_release("774M", url, tmp_path)


def test_a_disk_too_small_is_known_before_anything_is_fetched(source, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(UserError, match=r"0\.0 GB left"):
        fetch_release("774M", source.url, tmp_path)
    assert not [asked for asked in source.asked if asked[0] == "GET"]


@pytest.mark.parametrize("name", ["all_proxy", "https_proxy"])
def test_a_proxy_that_cannot_be_used_is_not_gone_around(name, tmp_path, monkeypatch):
    """all_proxy was not looked at: who names one may not want to be seen without it."""
    monkeypatch.setenv(name, "socks5://name:secret@127.0.0.1:9")
    with pytest.raises(UserError, match="a proxy of the kind socks5") as refused:
        fetch_release("774M", "https://no-such-host.invalid", tmp_path)
    assert "secret" not in str(refused.value)


def test_a_mirror_on_this_machine_needs_no_proxy(source, tmp_path, monkeypatch):
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert (fetch_release("774M", source.url, tmp_path) / DATA).is_file()


def test_all_proxy_is_a_proxy_for_releases(source, tmp_path, monkeypatch):
    monkeypatch.setenv("all_proxy", source.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(UserError):  # the toy server answers 404 to a whole address
        fetch_release("774M", "http://no-such-host.invalid", tmp_path)
    assert source.asked[0][1].startswith("http://no-such-host.invalid/774M/")


def test_the_cache_is_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "gpt2-from-scratch"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "gpt2-from-scratch"


def test_the_command_fetches_from_the_mirror_that_the_environment_names(
    source, tmp_path, monkeypatch
):
    """As far as the toy goes: its files are not 774M."""
    monkeypatch.setenv("GPT2_RELEASE_URL", source.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"hparams\.json cannot be read as JSON"):
        convert("774M", tmp_path / "out")
    assert (tmp_path / "cache" / "gpt2-from-scratch" / "774M" / DATA).is_file()


def test_the_command_says_offline_in_one_line_with_status_2(tmp_path):
    environment = os.environ | {
        "GPT2_RELEASE_URL": NOWHERE,
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "gpt2", "convert", "124M", str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: http://127.0.0.1:9/124M/checkpoint cannot be reached")
    assert len(done.stderr.splitlines()) == 1
