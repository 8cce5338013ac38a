"""Every function of the page, with inputs that its components never give."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.attacks.table import Attack, Expected, Stage, judge
from tests.support.site import API, Reply, new_session

FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
ADDRESS = {"path": "http://127.0.0.1:9/big", "meta": {"_type": "gradio.FileData"}}
VALUES = {
    "null": None, "true": True, "a huge number": 1e308, "no number": float("nan"), "minus one": -1,
    "a text": "x", "a long text": "long " * 20_000, "a lone surrogate": "\ud800",
    "NUL": "\0", "a list": ["x"], "a deep list": [[[[[[[[]]]]]]]], "an object": {"x": 1},
    "a file": FILE, "an address": ADDRESS, "a file in a list": [[FILE]],
    "somebody": {"owner": "0" * 32, "run": "0" * 32},
    "an update": {"__type__": "update", "value": "x", "choices": ["x"]},
    "a prototype": {"__proto__": {"x": 1}, "constructor": "x"},
}  # fmt: skip


def attacks() -> Iterator[Attack]:
    for name, value in VALUES.items():
        yield Attack("page", f"{name} in every input of every function", everywhere(value),
                     Expected.EITHER, 600)  # fmt: skip
    yield Attack("page", "no inputs to every function", everywhere(count=0), Expected.EITHER, 600)
    yield Attack("page", "too many inputs to every function", everywhere("x", count=60),
                 Expected.EITHER, 600)  # fmt: skip
    yield Attack("page", "queued functions beside the queue", beside_the_queue, seconds=60)


def everywhere(value: object = None, count: int | None = None):
    """The worst reply of all functions: each is judged by itself."""

    def send(stage: Stage) -> Reply:
        worst = Reply(200, "fine")
        for function in stage.functions if stage.every else distinct(stage.functions):
            size = len(function["inputs"]) if count is None else count
            reply = stage.site.event(function, [value] * size)
            one = Attack("page", function["api_name"], send, Expected.EITHER)
            if judge(one, reply, stage.patience):
                place = f"{function['api_name']} ({function['id']}): "
                return Reply(reply.status, place + reply.text[-2000:], reply.seconds)
        return worst

    return send


def distinct(functions: list[dict]) -> Iterator[dict]:
    """Each handler of the server once: one is often wired to many events."""
    seen = set()
    for function in functions:
        name = function["api_name"].rstrip("0123456789").rstrip("_")
        if function["backend_fn"] and (name, len(function["inputs"])) not in seen:
            seen.add((name, len(function["inputs"])))
            yield function


def beside_the_queue(stage: Stage) -> Reply:
    reply = Reply(404, "no functions are queued")
    for function in stage.functions:
        if function["queue"]:
            body = {"fn_index": function["id"], "data": [], "session_hash": new_session()}
            reply = stage.site.ask("POST", f"{API}/run/predict", body)
            if reply.status < 400:
                return reply
    return reply
