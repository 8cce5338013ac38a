"""The door that every request passes, over real HTTP and in pieces; gradio's own doors, shut."""

from __future__ import annotations

import asyncio
import errno
import gzip
import http.client
import http.server
import json
import logging
import re
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from starlette.testclient import TestClient

from tests.support.app_server import make_tiny_model, serve, wait_until
from tests.support.attacks.flood import abort_upload
from tests.support.event_loop import run_async
from tests.support.site import Site
from ui import front_door
from ui.front_door import MB, FrontDoor, Route, is_loopback, name_of, trusted_hosts


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    with pytest.MonkeyPatch.context() as patch, serve(str(folder), patch) as running:
        yield running


def ask(server, path: str, body: object = None, method: str | None = None, **headers: str):
    """(status, text) of one request."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers = {"Content-Type": "application/json"} | headers
    request = urllib.request.Request(server.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def call(server, name: str, data: list) -> str:
    """Everything that an endpoint answers, once the queue has room."""
    asked: list[tuple[int, str]] = []

    def is_taken() -> bool:
        asked.append(ask(server, f"/gradio_api/call/{name}", {"data": data}))
        return asked[-1][0] != 503

    wait_until(is_taken, "room in the queue", 30)
    status, text = asked[-1]
    assert status == 200, text
    return ask(server, f"/gradio_api/call/{name}/{json.loads(text)['event_id']}")[1]


# ---- what is open ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/deep_link",  # wrote 10 MB with each call
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/runs",
        "/gradio_api/run-history/records",
        "/gradio_api/proxy=http://127.0.0.1:9/x",
        "/gradio_api/file=http://127.0.0.1:9/x",
        "/gradio_api/dev/reload",
        "/gradio_api/vibe-code/",
        "/gradio_api/stream/a/1/2/playlist.m3u8",
        "/gradio_api/custom_component/a/client/component/x.js",
        "/openapi.json/../../etc/passwd",
        "/.env",
    ],
)
def test_what_nobody_uses_is_not_there(server, path):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    connection.request("GET", path)
    assert connection.getresponse().status == 404


@pytest.mark.parametrize("path", ["/gradio_api/run/generate", "/gradio_api/process_recording"])
def test_calls_beside_the_queue_are_not_there(server, path):
    assert ask(server, path, {"data": []})[0] == 404
    assert ask(server, "/", {})[0] == 405


def test_every_answer_says_how_it_may_be_used(server):
    for path in ("/", "/config", "/gradio_api/info", "/not-there"):
        request = urllib.request.Request(server.url + path)
        try:
            headers = urllib.request.urlopen(request, timeout=10).headers
        except urllib.error.HTTPError as error:
            headers = error.headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer"


# ---- bodies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("/gradio_api/upload", 23 * MB),
        ("/gradio_api/queue/join", 65 * MB),
        ("/gradio_api/call/generate", 5 * MB),
        ("/gradio_api/cancel", MB),
        ("/gradio_api/cancel", 10**30),
    ],
)
def test_a_request_announced_too_large_is_refused_unread(server, path, size):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    assert connection.getresponse().status in (400, 413)  # what is no length is uvicorn's to refuse


def reading(swallows: bool = False):
    """An app that reads its body to the end; a web framework may swallow what goes wrong."""

    async def app(scope, receive, send):
        try:
            while (await receive()).get("more_body"):
                pass
            answer = 200
        except Exception:
            if not swallows:
                raise
            answer = 400
        await send({"type": "http.response.start", "status": answer, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    return app


ANYTHING = (Route(("POST",), re.compile("/.*"), 100),)


@pytest.mark.parametrize(("size", "status"), [(0, 200), (100, 200), (101, 413), (5000, 413)])
@pytest.mark.parametrize("swallows", [False, True])
def test_bytes_that_were_not_announced_are_counted(size, status, swallows, monkeypatch):
    monkeypatch.setattr(front_door, "_DRAIN_SECONDS", 0.1)  # this client never ends its body
    chunks = (b"x" * min(50, size - start) for start in range(0, size, 50))
    client = TestClient(FrontDoor(reading(swallows), ANYTHING))
    assert client.post("/", content=chunks).status_code == status


def test_bodies_that_arrive_at_once_share_one_room(monkeypatch):
    monkeypatch.setattr(front_door, "MAX_BYTES_IN_FLIGHT", 150)
    door = FrontDoor(reading(), ANYTHING)
    answers: list[int] = []

    async def post(hold: asyncio.Event | None) -> None:
        parts = [{"type": "http.request", "body": b"x" * 90, "more_body": True}]
        parts.append({"type": "http.request", "body": b"", "more_body": False})

        async def receive():
            if len(parts) == 1 and hold:
                await hold.wait()
            return parts.pop(0)

        async def send(message):
            if message["type"] == "http.response.start":
                answers.append(message["status"])

        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        await door(scope, receive, send)

    async def two() -> None:
        hold = asyncio.Event()
        first = asyncio.create_task(post(hold))
        await asyncio.sleep(0)
        await post(None)
        assert answers == [503]
        hold.set()
        await first
        await post(None)  # the room of those that ended is free again

    run_async(two())
    assert answers == [503, 200, 200]


def test_a_body_that_never_ends_is_given_up(server, monkeypatch):
    """It was held for as long as its socket."""
    monkeypatch.setattr(front_door, "_GRACE_SECONDS", 0.3)
    address = server.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=10) as slow:
        slow.sendall(
            b"POST /gradio_api/call/generate HTTP/1.1\r\nHost: " + ":".join(address).encode() +
            b"\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )  # fmt: skip
        assert b"408" in slow.recv(100)


def test_who_sends_too_much_is_told_so(server):
    """The line was cut while the client still sent, and the answer was lost with it."""
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request("POST", "/gradio_api/upload", b"x" * (22 * MB + 1))
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"at most 22 MB" in answer.read()


def test_a_full_disk_is_named():
    """A visitor with an upload was told "Internal Server Error", and the log a traceback."""

    async def app(scope, receive, send):
        raise OSError(errno.ENOSPC, "No space left on device", "/a/path/of/the/server")

    answer = TestClient(FrontDoor(app, ANYTHING)).post("/", content=b"x")
    assert (answer.status_code, answer.text) == (507, "The server's disk is full. Try again later.")


# ---- what is not asked rightly --------------------------------------------------------------


@pytest.fixture
def faults(caplog):
    """What the server logs as its own fault."""
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(caplog.handler)
    yield caplog.records
    logger.removeHandler(caplog.handler)


def test_the_open_calls_are_the_public_functions(server):
    public = server.get("/gradio_api/info")["named_endpoints"]
    assert {f"/{name}" for name in front_door.ENDPOINTS} == set(public)
    for private in ("count", "look", "compose", "_push_here", "nothing"):
        assert ask(server, f"/gradio_api/call/{private}", {"data": []})[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        *[("queue/join", {"fn_index": n, "data": []}, 404) for n in (-1, 10**6, 2**70)],
        *[("run/predict", {"fn_index": n, "data": []}, 404) for n in (-1, 10**6, None)],
        ("run/predict", {"fn_index": "of the browser", "data": []}, 404),
        ("run/predict", {"fn_index": "of the server", "data": []}, 422),
        ("queue/join", {"fn_index": "of the server", "data": []}, 422),
        ("call/v2/generate", {"nonsense": 1}, 422),
        ("call/v2/run_status", {}, 422),
        ("call/generate", {"data": "x\ud800"}, 422),
        ("call/generate", {"data": float("nan")}, 422),
        ("call/generate", b"[", 422),
    ],
)
def test_a_wrong_request_is_the_callers_mistake(server, faults, path, body, status):
    """It was the server's: 500, and a traceback."""
    if isinstance(body, dict) and "fn_index" in body:
        body = body | {"session_hash": "wrong"}
        if isinstance(kind := body["fn_index"], str):
            body["fn_index"] = next(
                one["id"]
                for one in server.get("/config")["dependencies"]
                if one["inputs"] and one["backend_fn"] == (kind == "of the server")
            )
    found, text = ask(server, f"/gradio_api/{path}", body)
    assert found == status
    assert len(json.loads(text)["detail"]) > 10
    assert faults == []


def test_half_a_character_in_a_choice_is_refused_in_words_that_can_be_sent(server, faults):
    count = next(f for f in server.get("/config")["dependencies"] if f["api_name"] == "count")
    body = {"fn_index": count["id"], "data": ["x", "\ud800"], "session_hash": "half"}
    status, text = ask(server, "/gradio_api/run/predict", body)
    assert "not in the list of choices" in json.loads(text)["error"]
    assert (status, faults) == (500, [])  # gradio's status for every refusal of a handler


def test_an_event_that_is_gone_is_said_to_be_gone_and_nothing_more(server, faults):
    """A page that comes back after a restart asks for one."""
    for path in ("queue/data?session_hash=gone", "call/generate/gone"):
        status, text = ask(server, f"/gradio_api/{path}")
        assert status == 200
        assert "404" in text or "session_not_found" in text or "event: error" in text
    assert faults == []


def test_an_upload_that_breaks_off_is_nobodys_fault(server, faults):
    abort_upload(Site(server.url))
    assert ask(server, "/config")[0] == 200
    time.sleep(0.3)
    assert faults == []


# ---- names and other sites ------------------------------------------------------------------


def test_a_page_of_another_site_is_refused(server):
    host = server.url.removeprefix("http://")
    for origin, status in (
        ("http://evil.example", 403),
        ("null", 403),
        (f"http://{host}", 200),
    ):
        assert ask(server, "/gradio_api/call/generate", {"data": ["x"]}, Origin=origin)[0] == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:7860", 200),
        ("127.0.0.1", 200),
        ("[::1]:7860", 200),
        ("evil.example:7860", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
        ("friend.example", 200),
    ],
)
def test_a_foreign_name_for_this_machine_is_refused(host, status):
    """DNS rebinding: a foreign name that points here made the browser a way in."""
    door = FrontDoor(reading(), ANYTHING, trusted_hosts("127.0.0.1", ["Friend.example"]))
    assert TestClient(door).post("/", headers={"Host": host}).status_code == status


def test_a_server_for_everybody_has_any_name():
    assert trusted_hosts("0.0.0.0", []) is None
    assert [name_of(host) for host in ("a:1", "a", "[::1]:1", "[::1]")] == ["a", "a", "::1", "::1"]
    assert [is_loopback(name) for name in ("127.0.0.9", "::1", "10.0.0.1", "a", "")] == [
        True, True, False, False, False,
    ]  # fmt: skip


# ---- gradio's own doors ---------------------------------------------------------------------


@pytest.fixture
def far_away():
    """A server of somebody else, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"secret")

        def log_message(self, *given):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


def test_no_input_of_any_function_makes_the_server_fetch(server, far_away, monkeypatch):
    """200 bytes made it fetch 400 MB into memory and onto its disk, and serve them back."""
    import gradio.processing_utils

    monkeypatch.setattr(gradio.processing_utils, "PUBLIC_HOSTNAME_WHITELIST", ["127.0.0.1"])
    url, asked = far_away
    file = {"path": f"{url}/big", "meta": {"_type": "gradio.FileData"}}
    functions = server.get("/config")["dependencies"]
    assert len(functions) > 30
    for function in functions:
        data = [[{"deep": file}] if index % 2 else file for index in range(len(function["inputs"]))]
        session = f"fetch{function['id']}"
        body = {"fn_index": function["id"], "data": data, "session_hash": session}
        ask(server, "/gradio_api/queue/join", body)
    for name in ("generate", "start_run", "run_status", "stop_run", "download_run"):
        assert "addresses" in call(server, name, [file]) or name == "start_run"
    assert "addresses" in call(server, "start_run", ["", file])
    time.sleep(0.5)
    assert asked == []


def test_a_session_keeps_nothing_that_was_sent(server):
    """Six bodies of 60 MB took the server from 373 to 2233 MB, where it stayed."""
    words = "a long prompt " * 10_000
    functions = server.get("/config")["dependencies"]
    count = next(f for f in functions if f["api_name"] == "count")
    body = {"fn_index": count["id"], "data": [words, "tiny"], "session_hash": "keeps"}
    wait_until(
        lambda: ask(server, "/gradio_api/queue/join", body)[0] == 200, "room in the queue", 30
    )
    holder = server.page.state_holder
    wait_until(lambda: "keeps" in holder, "the session")
    session = holder["keeps"]
    assert session.config_values == {}
    assert all(words not in str(value) for value in session.state_data.values())


@pytest.mark.parametrize("count", [1, 2, 10, 11])
def test_a_call_by_position_written_before_an_argument_was_added_still_works(server, count):
    """`min_p` came after ten others: plain HTTP calls with ten values were refused."""
    values = ["Once", "tiny", 5, 0.8, 40, 0.95, 1.1, 1, "", True, 0.0]
    assert "event: complete" in call(server, "generate", values[:count])
    assert "event: error" in call(server, "generate", [])
    answer = call(server, "start_run", ["too short"])
    assert "event: error" in answer
    assert "200" in answer or "tokens" in answer


def test_what_a_run_writes_is_for_nobodys_cache(server):
    for path in ("/gradio_api/queue/data?session_hash=a", "/gradio_api/call/run_status/none"):
        with urllib.request.urlopen(server.url + path, timeout=10) as answer:
            assert answer.headers["Cache-Control"] == "no-store"


def test_a_shared_page_answers_to_the_tunnels_names_and_in_notebooks():
    hosts = trusted_hosts("127.0.0.1", [], share=True)
    for host, status in (("a1b2.gradio.live", 200), ("gradio.live.evil.com", 403), ("x.com", 403)):
        app = FrontDoor(hello, hosts=hosts, frames=front_door.NOTEBOOKS)
        answer = TestClient(app).get("/", headers={"Host": host})
        assert answer.status_code == status
        assert "colab.research.google.com" in answer.headers["Content-Security-Policy"]
    assert not is_loopback("a1b2.gradio.live")  # so nobody there is this machine's owner


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def test_a_link_to_the_page_is_shown_in_its_own_words(server):
    """It said Gradio, and had an address of "{url}"."""
    with urllib.request.urlopen(server.url) as answer:
        text = answer.read().decode()
    tags = re.findall(r'<meta (?:property|name)="(og:[^"]+|description)" content="([^"]*)"', text)
    assert dict(tags)["og:title"] == "GPT-2, written from scratch"
    assert dict(tags)["og:description"] == dict(tags)["description"] != ""
    assert len(tags) == len(dict(tags)), "each once"
    assert "{url}" not in text


def test_the_page_is_compressed_and_streams_are_not(server):
    asked = urllib.request.Request(server.url, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(asked) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        small = answer.read()
    assert len(small) < 40_000 < 150_000 < len(gzip.decompress(small))
