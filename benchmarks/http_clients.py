"""Clients of a running server over raw HTTP, and the servers that they can ask."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from os import environ, sysconf
from pathlib import Path
from socket import socket

ROOT = Path(__file__).resolve().parents[1]
CALL = "/gradio_api/call"
LENGTHS = (20, 60, 200, 700)  # characters of the prompts, in turn


@dataclass
class Answer:
    """What one request got."""

    asked: float
    words: list[float] = field(default_factory=list)  # the moments at which text came
    ended: float | None = None  # None: not whole
    refused: bool = False


@dataclass(frozen=True)
class Burst:
    """What the requests of one moment got, and what that cost the server."""

    answers: list[Answer]
    cpu: float  # seconds


@dataclass(frozen=True)
class Server:
    name: str
    process: subprocess.Popen
    port: int
    ask: Callable[[int, str, int, int], AsyncIterator[bool]]  # port, prompt, tokens, seed


@contextmanager
def started(
    name: str, folder: Path, command: list[str], ready: str, ask: Callable, threads: int
) -> Iterator[Server]:
    """A server on a free port of this machine, ready to be asked."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*command, str(port)],
        cwd=folder,
        env=environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with suppress(OSError, urllib.error.URLError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=5).close()
                break
            if process.poll() is not None:
                raise SystemExit(f"{name} ended early: {command}")
            time.sleep(0.1)
        yield Server(name, process, port, ask)
    finally:
        process.terminate()
        process.wait()


def prompt(index: int) -> str:
    text = (ROOT / "ui/assets/sample_text.txt").read_text(encoding="utf-8")
    begin = 97 * index % (len(text) // 2)
    return text[begin : begin + LENGTHS[index % len(LENGTHS)]].rstrip()


async def visit(server: Server, text: str, tokens: int, seed: int, leaves: bool) -> Answer:
    answer = Answer(time.monotonic())
    words = server.ask(server.port, text, tokens, seed)
    try:
        async for served in words:
            answer.refused |= not served
            if served:
                answer.words.append(time.monotonic())
            if leaves:
                return answer
        answer.ended = None if answer.refused else time.monotonic()
    except (OSError, asyncio.IncompleteReadError, ValueError):
        pass  # counted as failed
    finally:
        await words.aclose()
    return answer


async def ask_app(port: int, text: str, tokens: int, seed: int) -> AsyncIterator[bool]:
    """True whenever there is more text, False for a refusal."""
    event = await ordered(port, text, tokens, seed)
    seen = ""
    async with connection(port, f"{CALL}/generate/{event}", client=seed) as reader:
        async for kind, value in events_of(reader):
            if kind == "error":
                yield False
            elif kind in ("generating", "complete") and value and value[0] != seen:
                seen = value[0]
                yield True
            if kind in ("error", "complete"):
                return
    raise ValueError("the stream broke off")


async def ordered(port: int, text: str, tokens: int, seed: int) -> str:
    """The app takes the order for a text; where its events are."""
    body = {"prompt": text, "model": default_model(port), "max_new_tokens": tokens, "seed": seed}
    body |= {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.1}
    body |= {"stop_at_end_of_text": False}
    async with connection(port, f"{CALL}/v2/generate", body, seed) as reader:
        return json.loads(await body_of(reader))["event_id"]


@functools.cache
def default_model(port: int) -> str:
    """What the app calls the model that it was started with."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/gradio_api/info") as answer:
        wanted = json.load(answer)["named_endpoints"]["/generate"]["parameters"]
    return next(one["parameter_default"] for one in wanted if one["parameter_name"] == "model")


async def ask_llama(port: int, text: str, tokens: int, seed: int) -> AsyncIterator[bool]:
    body = {
        "prompt": text,
        "n_predict": tokens,
        "stream": True,
        "seed": seed,
        "ignore_eos": True,
        "cache_prompt": False,
    }
    body |= {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "repeat_penalty": 1.1}
    async with connection(port, "/completion", body) as reader:
        async for _, value in events_of(reader):
            if value and value.get("content"):
                yield True
            if value and value.get("stop"):
                return
    raise ValueError("the stream broke off")


class connection:
    """One request on a connection of its own: the reader, behind the headers of the answer.

    Every client has an address of its own, as in the world: the app counts by address. Only Linux
    has more than one of this machine."""

    def __init__(
        self, port: int, path: str, body: dict | None = None, client: int | None = None
    ) -> None:
        self._from = None
        if client is not None and sys.platform == "linux":
            self._from = (f"127.0.{1 + client // 250}.{1 + client % 250}", 0)
        raw = b"" if body is None else json.dumps(body).encode()
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        self._port, self._raw = port, head.encode() + raw

    async def __aenter__(self) -> asyncio.StreamReader:
        reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, limit=1 << 24, local_addr=self._from
        )
        self._writer.write(self._raw)
        status = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
        if status != b"200":
            raise ValueError(f"status {status!r}")
        return reader

    async def __aexit__(self, *raised: object) -> None:
        self._writer.close()


async def body_of(reader: asyncio.StreamReader) -> str:
    return (await reader.read(-1)).decode()


async def events_of(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, object]]:
    """The server-sent events: their kind, and their data read as JSON."""
    kind = ""
    while line := (await reader.readline()).decode():
        name, _, value = line.strip().partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def cpu_seconds(process: subprocess.Popen) -> float:
    """What all its threads have computed so far, where the system tells (Linux); else 0."""
    with suppress(OSError):
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / sysconf("SC_CLK_TCK")
    return 0.0


def peak_mb(process: subprocess.Popen) -> int:
    """Peak resident memory, where the system tells (Linux); else 0."""
    with suppress(OSError):
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024
    return 0


def share(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")
