"""Texts that nobody means to write, wherever a text can be given."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.attacks.table import Attack, Expected, Stage
from tests.support.site import Reply, function_named

ODD = {
    "empty": "",
    "spaces": "   ",
    "new lines": "\n\n\n",
    "one character": "a",
    "NUL": "a\0b",
    "a lone surrogate": "a\ud800b",
    "a byte order mark": "\ufeffOnce",
    "a right-to-left override": "abc\u202edef",
    "10k emoji with joiners": "\U0001f469\u200d\U0001f467" * 5_000,
    "10k combining marks": "e" + "\u0301" * 10_000,
    "the end of text": "<|endoftext|>",
    "10k ends of text": "<|endoftext|>" * 10_000,
    "a script": "<script>alert(1)</script>",
    "an image that reports": "![x](http://127.0.0.1:9/beacon.png)",
    "ANSI escapes": "\x1b[31mred\x1b]0;title\x07",
    "CRLF": "a\r\nSet-Cookie: b=c\r\n\r\nd",
    "braces of templates": "{{7*7}} {0.__class__} %s ${HOME}",
    "1024 tokens": "a " * 1024,
    "1025 tokens": "a " * 1025,
    "100k tokens": "a " * 100_000,
    "full-width digits": "\uff11\uff12\uff13",
    "a private use character": "\ue000\U000f0000",
    "a noncharacter": "\ufffe\uffff",
}
HUGE = {
    "1 MB of ^": "^" * 1_000_000,
    "1 MB of spaces": " " * 1_000_000,
    "1 MB of a": "a" * 1_000_000,
}
NO_TEXT = {
    "null": None, "a number": 5, "a boolean": True, "a list": ["a"], "an object": {"a": "b"},
    "nested lists": [[[[["a"]]]]],
}  # fmt: skip


def attacks() -> Iterator[Attack]:
    for name, text in ODD.items():
        bad = Expected.REFUSED if "surrogate" in name else Expected.EITHER
        yield Attack("text", f"{name} as a prompt", generate(text), bad)
        yield Attack("text", f"{name} in the prompt's box", count(text), bad)
        yield Attack("text", f"{name} to learn from", learn(text, "taste"), Expected.EITHER)
        yield Attack("text", f"{name} as a stop text", generate("Once", 8, text), Expected.EITHER)
        yield Attack("text", f"{name} as a prompt for samples", sample_prompt(text), bad)
    for name, text in HUGE.items():
        yield Attack("text", f"{name} as a prompt", generate(text))
        yield Attack("text", f"{name} in the prompt's box", count(text))
        yield Attack("text", f"{name} as a run", call("run_status", text))
    for name, value in NO_TEXT.items():
        yield Attack("text", f"{name} as a prompt", generate(value))
        yield Attack("text", f"{name} to learn from", learn(value, "taste"))
        yield Attack("text", f"{name} as a model", call("generate", "Once", value))
        yield Attack("text", f"{name} as a run", call("run_status", value))
    for name in ("/etc/passwd", "../toy", "user/name", "run:" + "0" * 32, "a/b/c", "..", "--help"):
        yield Attack("text", f"{name} as a model", call("generate", "Once", name))
        yield Attack("text", f"{name} as the model of a run", learn("x" * 4000, "taste", name))


def call(endpoint: str, *data: object):
    return lambda stage: stage.site.call(endpoint, list(data))


def generate(prompt: object, *place: object):
    """`place`: an index among the inputs and its value."""

    def send(stage: Stage) -> Reply:
        data = [prompt, stage.model, 2, 0.8, 40, 0.95, 1.1, 1, "", True, 0.0]
        if place:
            data[place[0]] = place[1]
        return stage.site.call("generate", data)

    return send


def count(prompt: object):
    def send(stage: Stage) -> Reply:
        function = function_named(stage.functions, "count")
        return stage.site.event(function, [prompt, stage.model])

    return send


def learn(text: object, preset: object = "taste", model: object = None, **more: object):
    """Start a run of 3 steps, and stop it if it did start."""

    def send(stage: Stage) -> Reply:
        settings = more.get("settings", {"steps": 3, "sample_every": 0})
        data = [text, more.get("file"), model or stage.model, preset, settings]
        data += [more.get("column", ""), more.get("owner", ""), more.get("encoding", "")]
        reply = stage.site.call("start_run", data)
        if reply.status == 200 and "event: complete" in reply.text:
            run = reply.text.rpartition('["')[2][:32]
            stage.site.call("stop_run", [run])
        return reply

    return send


def sample_prompt(text: str):
    return learn("It is a truth. " * 300, settings={"steps": 3, "sample_prompt": text})
