"""Files that are no texts, names that are paths, paths of others."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Iterator

from tests.support.attacks.table import Attack, Expected, Stage
from tests.support.attacks.texts import learn
from tests.support.site import API, Reply

MB = 1 << 20
PROSE = b"It is a truth universally acknowledged. " * 60
CONTENTS = {
    "0 bytes": b"",
    "1 byte": b"a",
    "fewer than a block": b"It is a truth.",
    "gzip": gzip.compress(PROSE),
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
    "zeros": bytes(5000),
    "random bytes": bytes((i * i * 7919 >> 3) & 255 for i in range(5000)),
}
READABLE = {
    "a block and one more": b"a" * 33,
    "UTF-16": PROSE.decode().encode("utf-16"),
    "UTF-16 without a mark": PROSE.decode().encode("utf-16-le"),
    "Latin-1": "Füße über Flüsse. ".encode("latin-1") * 200,
    "UTF-8 cut in a character": PROSE + "é".encode()[:1],
    "a pickle": pickle.dumps({"a": 1}) * 40,
    "one line of a million": b"a" * 1_000_000,
}
NAMES = {
    "../../x.txt": Expected.EITHER,
    "..": Expected.EITHER,
    "x" * 300 + ".txt": Expected.EITHER,
    "/etc/passwd": Expected.EITHER,
    "a\\..\\b.txt": Expected.EITHER,
    "x.safetensors": Expected.REFUSED,
    "x.exe": Expected.REFUSED,
    "x": Expected.EITHER,
    ".txt": Expected.EITHER,
    "con.txt": Expected.EITHER,
    "<img src=x onerror=alert(1)>.txt": Expected.EITHER,
    "a%00b.txt": Expected.EITHER,
    "a\x1b[31m.txt": Expected.EITHER,
    "é\u202e.txt": Expected.EITHER,
}
TABLES = {
    "csv with one cell of a megabyte": ("a.csv", b"text\n" + b"x" * MB),
    "csv with 100k columns": ("a.csv", b"a," * 100_000 + b"\n" + b"1," * 100_000),
    "json nested 100k deep": ("a.json", b"[" * 100_000),
    "json lines that are none": ("a.jsonl", b"{\n" * 100),
    "json of a huge number": ("a.json", b'[{"text": ' + b"9" * 10_000 + b"}]"),
    "parquet that is none": ("a.parquet", b"PAR1" + bytes(500) + b"PAR1"),
    "tsv without rows": ("a.tsv", b"text\n"),
    "quotes that never end": ("a.csv", b'text\n"' + b"x\n" * 10_000),
}
PATHS = ("/etc/passwd", "../x", "/proc/self/environ", "", "/", "..", "x/..", "/dev/zero",
         "/dev/stdin", "~/.ssh/id_rsa", "\0", "a" * 5000, "/etc/passwd/..", "{temp}/..",
         "{temp}/../..", "{runs}/.server", "{hub}/token", "{app}/app.py",
         "/etc/\ud800")  # fmt: skip
ADDRESSES = ("http://169.254.169.254/latest/meta-data", "{far}/big", "file:///etc/passwd",
             "ftp://127.0.0.1/x", "HTTP://LOCALHOST/x", "gopher://x", "data://x", "//x/y",
             "http:/\\x")  # fmt: skip
STRANGE = (5, "x.txt", {"path": None}, [], {}, {"path": 5}, {"path": ["/etc/passwd"]}, True)


def attacks() -> Iterator[Attack]:
    for name, content in CONTENTS.items():
        yield Attack("file", f"{name} as .txt", uploaded("a.txt", content))
    for name, content in READABLE.items():
        yield Attack("file", f"{name} as .txt", uploaded("a.txt", content), Expected.EITHER)
    for name, expected in NAMES.items():
        yield Attack("file", f"named {name[:40]!a}", uploaded(name, PROSE), expected)
    for name, (file, content) in TABLES.items():
        yield Attack("file", name, uploaded(file, content), Expected.EITHER)
    for path in PATHS:
        yield Attack("file", f"the path {path[:40]!a}", given({"path": path}))
        as_file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        yield Attack("file", f"the path {path[:40]!a}, as gradio's", given(as_file))
    for address in ADDRESSES:
        as_file = {"path": address, "meta": {"_type": "gradio.FileData"}}
        yield Attack("file", f"the address {address}", given(as_file))
    for value in STRANGE:
        expected = Expected.EITHER if not value else Expected.REFUSED
        yield Attack("file", f"as a file {value!a}", given(value), expected)
    yield Attack("file", "1000 at once", many(1000), Expected.EITHER)
    yield Attack("file", "one byte too large", too_large)
    yield Attack("file", "a form without files", form(b"--x--\r\n"), Expected.EITHER)
    yield Attack("file", "a form that breaks off", form(
        b"--x\r\nContent-Disposition: form-data"
    ), Expected.EITHER)  # fmt: skip
    yield Attack("file", "a field of 1 MB, no file", form(
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"a" * MB + b"\r\n--x--\r\n"
    ), Expected.EITHER)  # fmt: skip
    yield Attack("file", "no form at all", lambda stage: stage.site.ask(
        "POST", f"{API}/upload", b"abc", {"Content-Type": "text/plain"}
    ))  # fmt: skip


def uploaded(name: str, content: bytes):
    def send(stage: Stage) -> Reply:
        reply = stage.site.upload((name, content))
        if reply.status != 200:
            return reply
        return given({"path": reply.value[0]})(stage)

    return send


def given(file: object):
    """Learn from `file`, whose path may name a place of the server."""

    def send(stage: Stage) -> Reply:
        places = {"{temp}": stage.app.temp, "{runs}": stage.app.runs, "{far}": stage.far_away,
                  "{hub}": stage.app.folder / "hub", "{app}": stage.app.folder}  # fmt: skip
        words = json.dumps(file)
        for mark, place in places.items():
            words = words.replace(mark, str(place))
        return learn("", file=json.loads(words))(stage)

    return send


def many(count: int):
    return lambda stage: stage.site.upload(*[(f"{i}.txt", b"x") for i in range(count)])


def too_large(stage: Stage) -> Reply:
    return stage.site.upload(("a.txt", b"a" * (22 * MB + 1)))


def form(body: bytes):
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    return lambda stage: stage.site.ask("POST", f"{API}/upload", body, kind)
