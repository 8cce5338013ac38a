"""Requests that are not what the page would send: routes, methods, headers, bodies, handles."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.support.attacks.table import Attack, Expected, Stage
from tests.support.attacks.texts import call
from tests.support.site import API, Reply, function_named

SHUT = (
    "/gradio_api/deep_link", "/monitoring", "/monitoring/summary", "/gradio_api/runs", "/.env",
    "/gradio_api/run-history/records", "/gradio_api/proxy=http://127.0.0.1:9/x", "/docs", "/redoc",
    "/gradio_api/dev/reload", "/gradio_api/vibe-code/", "/gradio_api/stream/a/1/2/playlist.m3u8",
    "/gradio_api/custom_component/a/client/component/x.js", "/openapi.json", "/gradio_api/mcp/",
    "/gradio_api/file=http://127.0.0.1:9/x", "/gradio_api/component_server", "/queue/status",
    "/gradio_api/queue/status", "/login", "/file=/etc/passwd", "//evil.example/", "/%2e%2e/app.py",
    "/static/../../../../etc/passwd", "/assets/..%2f..%2fapp.py", "/gradio_api/app.py",
)  # fmt: skip
FILES = ("/etc/passwd", "{runs}", "{runs}/.server", "{hub}/token", "app.py", "../app.py",
         "%2e%2e/app.py", "....//app.py", "/proc/self/environ", "/proc/self/fd/1", "{temp}", ".",
         "..", "%00", "/etc/passwd%00.txt", "a" * 3000)  # fmt: skip
METHODS = ("PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "OPTIONS", "PROPFIND", "x")
BODIES = {
    "no JSON": b"abc",
    "an empty body": b"",
    "a list": b"[]",
    "a number": b"5",
    "no data": b"{}",
    "null data": b'{"data": null}',
    "data that is text": b'{"data": "abc"}',
    "data that is an object": b'{"data": {"0": "x"}}',
    "deep lists": b'{"data": [' + b"[" * 2000 + b"]" * 2000 + b"]}",
    "deeper lists": b'{"data": [' + b"[" * 200_000 + b"]" * 200_000 + b"]}",
    "deep objects": b'{"data": [' + b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"]}",
    "a broken escape": b'{"data": ["\\u12"]}',
    "bytes that are no UTF-8": b'{"data": ["\xff\xfe"]}',
    "a number of 5000 digits": b'{"data": [' + b"9" * 5000 + b"]}",
    "keys twice": b'{"data": [], "data": [5]}',
    "JSON that breaks off": b'{"data": ["Once"',
    "half a character as data": b'{"data": "\\ud800"}',
    "no number as data": b'{"data": NaN}',
    "half a character as a key": b'{"data": [], "\\ud800": 1}',
    "a byte order mark": b'\xef\xbb\xbf{"data": []}',
    "100k inputs": b'{"data": [' + b"1," * 100_000 + b"1]}",
}
LENIENT = ("keys twice",)
RUNS = ("", "0" * 32, "../x", "run:" + "0" * 32, "A" * 32, "\uff11" * 32, "0" * 31, "0" * 33, "%",
        "0" * 32 + "\n", " " + "0" * 32, "x" * 10_000, "\0" * 32, ".server",
        ".downloads")  # fmt: skip
FUNCTIONS = (-1, 10**6, 1.5, "0", None, True, [0], "generate", 2**70)
SESSIONS = ("", "a" * 100_000, "../x", "\0", "<script>", None, 5, ["a"], "\ud800")
EVENTS = ("0" * 32, "x", "../../config", "%2e%2e", "a" * 5000)


def attacks() -> Iterator[Attack]:
    for path in SHUT:
        yield Attack("protocol", f"GET {path}", ask("GET", path))
    for path in FILES:
        yield Attack("protocol", f"the file {path[:40]}", served(path))
    for method in METHODS:
        yield Attack("protocol", f"{method} /", ask(method, "/"))
        yield Attack("protocol", f"{method} a call", ask(method, f"{API}/call/generate"))
    for name, body in BODIES.items():
        for path in ("call/generate", "queue/join", "run/predict"):
            expected = Expected.EITHER if name in LENIENT else Expected.REFUSED
            yield Attack("protocol", f"{name} to {path}", posted(path, body), expected)
    for run in RUNS:
        for endpoint in ("run_status", "stop_run", "download_run"):
            yield Attack("protocol", f"{endpoint} of {run[:36]!a}", call(endpoint, run))
    for name in ("nothing", "count", "look", "compose", "../generate", "generate/x/y", "%00", "v2"):
        path = f"{API}/call/{name}"
        yield Attack("protocol", f"call of {name}", ask("POST", path, {"data": []}))
    for name in ("nothing", "generate", "start_run"):
        path = f"{API}/call/v2/{name}"
        yield Attack("protocol", f"call v2 of {name}", ask("POST", path, {"nonsense": 1}))
    for index in FUNCTIONS:
        for path in ("queue/join", "run/predict"):
            body = {"fn_index": index, "data": [], "session_hash": "odd"}
            yield Attack("protocol", f"function {index!a} by {path}", ask(
                "POST", f"{API}/{path}", body
            ), Expected.EITHER if index in ("0", True) else Expected.REFUSED)  # fmt: skip
    for session in SESSIONS:
        yield Attack("protocol", f"session {ascii(session)[:30]}", joined(session), Expected.EITHER)
    for event in EVENTS:
        yield Attack("protocol", f"event {event[:30]}", ask("GET", f"{API}/call/generate/{event}"),
                     Expected.EITHER)  # fmt: skip
        cancel = {"event_id": event, "fn_index": 2, "session_hash": "odd"}
        yield Attack("protocol", f"cancel {event[:30]}", ask("POST", f"{API}/cancel", cancel),
                     Expected.EITHER)  # fmt: skip
        yield Attack("protocol", f"reset {event[:30]}", ask(
            "POST", f"{API}/reset", {"event_id": event}
        ), Expected.EITHER)  # fmt: skip
    yield from headers()
    yield from lines()


def headers() -> Iterator[Attack]:
    """Other sites, other names, forged proxies."""
    body = {"data": ["Once"]}
    for name, value in (
        ("Origin", "http://evil.example"), ("Origin", "null"), ("Origin", "http://127.0.0.1"),
        ("Host", "evil.example"), ("Host", "127.0.0.1.evil.example"), ("Host", ""),
        ("Content-Length", "-1"), ("Content-Length", "x"), ("Content-Length", "9" * 30),
        ("Content-Length", "100000000"),
    ):  # fmt: skip
        send = ask("POST", f"{API}/call/generate", body, {name: value})
        if name == "Content-Length":
            send = announced(value)
        yield Attack("header", f"{name}: {value}", send)
    for name, value in (
        ("X-Forwarded-For", "1.2.3.4, 5.6.7.8"), ("X-Forwarded-Proto", "javascript"),
        ("Authorization", "Bearer x"), ("Cookie", "access-token=x; session=y"),
        ("Referer", "http://evil.example"), ("Accept-Encoding", "x" * 3000),
        ("X-HF-Authorization", "x"), ("Range", "bytes=0-1,2-3,4-5"), ("Expect", "100-continue"),
    ):  # fmt: skip
        yield Attack("header", f"{name}: {value[:30]}", ask("GET", "/config", None, {name: value}),
                     Expected.EITHER)  # fmt: skip


def lines() -> Iterator[Attack]:
    """Bytes that are no HTTP, or not quite."""
    host = b"Host: 127.0.0.1\r\n"
    for name, sent in {
        "no HTTP": b"\x16\x03\x01 hello\r\n\r\n",
        "an unknown version": b"GET / HTTP/9.9\r\n" + host + b"\r\n",
        "a header of 1 MB": b"GET / HTTP/1.1\r\n" + host + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n",
        "10k headers": b"GET / HTTP/1.1\r\n" + host + b"X: a\r\n" * 10_000 + b"\r\n",
        "a path of 1 MB": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n" + host + b"\r\n",
        "two lengths": b"POST /gradio_api/cancel HTTP/1.1\r\n" + host
        + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
        "a length and chunks": b"POST /gradio_api/cancel HTTP/1.1\r\n" + host
        + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a chunk of no size": b"POST /gradio_api/cancel HTTP/1.1\r\n" + host
        + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "a header in two lines": b"GET / HTTP/1.1\r\n" + host + b"X: a\r\n b\r\n\r\n",
        "a NUL in the path": b"GET /\0 HTTP/1.1\r\n" + host + b"\r\n",
        "an address as the path": b"GET http://evil.example/ HTTP/1.1\r\n" + host + b"\r\n",
        "no Host": b"GET / HTTP/1.1\r\n\r\n",
        "a socket that asks to be one": b"GET /gradio_api/queue/join HTTP/1.1\r\n" + host
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n"
        + b"Sec-WebSocket-Version: 13\r\n\r\n",
    }.items():  # fmt: skip
        yield Attack("line", name, lambda stage, sent=sent: stage.site.raw(sent), Expected.EITHER)


def ask(method: str, path: str, body: object = None, headers: dict | None = None):
    return lambda stage: stage.site.ask(method, path, body, headers)


def served(path: str):
    def send(stage: Stage) -> Reply:
        app = stage.app
        place = path.format(runs=app.runs, temp=app.temp, hub=app.folder / "hub")
        return stage.site.ask("GET", f"{API}/file={place}")

    return send


def announced(length: str):
    """A length that is not the body's."""
    return lambda stage: stage.site.raw(
        f"POST {API}/call/generate HTTP/1.1\r\nHost: {stage.site.url.partition('://')[2]}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{{}}".encode()
    )


def joined(session: object):
    def send(stage: Stage) -> Reply:
        function = function_named(stage.functions, "look")
        data = [None] * len(function["inputs"])
        body = {"fn_index": function["id"], "data": data, "session_hash": session}
        return stage.site.ask("POST", f"{API}/run/predict", json.dumps(body).encode())

    return send


def posted(path: str, body: bytes):
    """A body as it is; what the queue took is waited for."""

    def send(stage: Stage) -> Reply:
        reply = stage.site.ask("POST", f"{API}/{path}", body)
        if reply.status == 200 and path.startswith("call/"):
            return stage.site.ask("GET", f"{API}/{path}/{reply.value['event_id']}")
        return reply

    return send
