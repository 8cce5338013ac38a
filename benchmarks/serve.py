"""Many clients at once over raw HTTP: how fast the texts come, together and for each client.

    python benchmarks/serve.py [--model storyteller] [--clients 1 4 8 16 32 64] [--markdown FILE]
        [--chart FILE.svg] [--app DIR] [--threads N]
        [--llama-server PATH --gguf FILE] [--transformers FOLDER]

It starts the app in a process of its own; `--app DIR`, which may be repeated, starts another
checkout, say of an earlier commit. All servers take turns, at every number of clients. Every client
asks for `--tokens` tokens with a prompt of its own, some short, some long; a burst is one request
of each at the same moment. Before each there is one that is not timed, of which a third leave at
their first words. The same clients can ask llama.cpp's server, with as many slots as clients, for a
model converted from the same folder; `transformers` generates the texts one after the other.

Columns: tokens a second of all together and of a client (median); seconds to the first words
(median and p95) and between words (p95); how many were refused in words, or failed; how long the
server's process computed for a token, which says most on a busy machine; its peak memory.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import platform
import re
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise, product
from os import environ, sysconf
from pathlib import Path
from socket import socket

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpt2.machine import core_count

HEAD = (
    "| server | clients | tokens/s together | each | first words, s | p95 | between, p95 | refused "
    "| failed | CPU ms a token | MB |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="storyteller")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8, 16, 32, 64])
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=core_count())
    parser.add_argument("--app", type=Path, action="append", metavar="DIR", help="[this one]")
    parser.add_argument("--llama-server", metavar="PATH")
    parser.add_argument("--gguf", metavar="FILE", help="the model of llama-server")
    parser.add_argument("--transformers", metavar="FOLDER", help="a model folder")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="an SVG of the first column")
    options = parser.parse_args()
    if bool(options.llama_server) != bool(options.gguf):
        parser.error("--llama-server and --gguf go together")
    table: dict[tuple[str, int], list[Burst]] = {}
    with ExitStack() as stack:
        servers = [stack.enter_context(start()) for start in starters(options)]
        for server in servers:
            asyncio.run(burst(server, 2, options.tokens))  # to warm up
        for _ in range(options.rounds):
            for clients, server in product(options.clients, servers):
                asyncio.run(burst(server, clients, options.tokens, leaving=3))
                before = cpu_seconds(server.process)
                answers = asyncio.run(burst(server, clients, options.tokens))
                one = Burst(answers, cpu_seconds(server.process) - before)
                table.setdefault((server.name, clients), []).append(one)
                print(row(server.name, clients, [one], options.tokens, 0), file=sys.stderr)
        memory = {server.name: peak_mb(server.process) for server in servers}
    report = [describe(options), "", *HEAD]
    for (name, clients), rounds in table.items():
        report.append(row(name, clients, rounds, options.tokens, memory[name]))
    if options.transformers:
        report += transformers_rows(options)
    print("\n".join(report))
    if options.markdown:
        options.markdown.write_text("\n".join(report) + "\n", encoding="utf-8")
    if options.chart:
        options.chart.write_text(chart(table, options.tokens), encoding="utf-8")


def describe(options: argparse.Namespace) -> str:
    return (
        f"{platform.machine()}, {core_count()} cores, {options.model}, {options.tokens} tokens a "
        f"request, prompts of {LENGTHS} characters, medians of {options.rounds} bursts."
    )


def starters(options: argparse.Namespace) -> Iterator[Callable]:
    for folder in [path.resolve() for path in options.app or [ROOT]]:
        name = "this app" if folder == ROOT else f"app of {folder.name}"
        command = [sys.executable, "app.py", "--model", options.model, "--port"]
        yield lambda n=name, d=folder, c=command: started(n, d, c, "/", ask_app, options.threads)
    if options.llama_server:
        slots = max(options.clients)
        command = [options.llama_server, "-m", options.gguf, "--parallel", str(slots)]
        command += ["-c", str(1024 * slots), "-t", str(options.threads), "--host", "127.0.0.1"]
        command += ["--port"]
        yield lambda: started("llama-server", ROOT, command, "/health", ask_llama, options.threads)


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


async def burst(server: Server, clients: int, tokens: int, leaving: int = 0) -> list[Answer]:
    """One request of every client at the same moment; every `leaving`-th leaves at once."""
    requests = (
        visit(server, prompt(i), tokens, i, bool(leaving) and i % leaving == 0)
        for i in range(clients)
    )
    return await asyncio.gather(*requests)


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
    body = {"prompt": text, "model": default_model(port), "max_new_tokens": tokens, "seed": seed}
    body |= {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.1}
    path = "/gradio_api/call"
    async with _connection(
        port, f"{path}/v2/generate", body | {"stop_at_end_of_text": False}, seed
    ) as reader:
        event = json.loads(await body_of(reader))["event_id"]
    seen = ""
    async with _connection(port, f"{path}/generate/{event}", client=seed) as reader:
        async for kind, value in events_of(reader):
            if kind == "error":
                yield False
            elif kind in ("generating", "complete") and value and value[0] != seen:
                seen = value[0]
                yield True
            if kind in ("error", "complete"):
                return
    raise ValueError("the stream broke off")


@functools.cache
def default_model(port: int) -> str:
    """What the app calls the model that it was started with."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/gradio_api/info") as answer:
        wanted = json.load(answer)["named_endpoints"]["/generate"]["parameters"]
    return next(one["parameter_default"] for one in wanted if one["parameter_name"] == "model")


async def ask_llama(port: int, text: str, tokens: int, seed: int) -> AsyncIterator[bool]:
    body = {"prompt": text, "n_predict": tokens, "stream": True, "seed": seed, "ignore_eos": True}
    body |= {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "repeat_penalty": 1.1}
    async with _connection(port, "/completion", body) as reader:
        async for _, value in events_of(reader):
            if value and value.get("content"):
                yield True
            if value and value.get("stop"):
                return
    raise ValueError("the stream broke off")


class _connection:
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


def row(name: str, clients: int, rounds: list[Burst], tokens: int, mb: int) -> str:
    answers = [answer for one in rounds for answer in one.answers]
    whole = [answer for answer in answers if answer.ended]
    first = sorted(answer.words[0] - answer.asked for answer in answers if answer.words)
    between = sorted(b - a for answer in answers for a, b in pairwise(answer.words))
    refused = sum(answer.refused for answer in answers)
    together = statistics.median(throughput(one.answers, tokens) for one in rounds)
    cpu = statistics.median(1000 * one.cpu / (tokens * clients) for one in rounds)
    each = statistics.median([tokens / (one.ended - one.asked) for one in whole] or [0])
    numbers = f"{together:,.0f} | {each:,.0f} | {share(first, 0.5):.2f} | {share(first, 0.95):.2f}"
    numbers += f" | {share(between, 0.95):.2f} | {refused} | {len(answers) - len(whole) - refused}"
    return f"| {name} | {clients} | {numbers} | {cpu:.2f} | {mb} |"


def throughput(answers: list[Answer], tokens: int) -> float:
    """Tokens of whole texts by the time from the first request to the last word."""
    whole = [answer for answer in answers if answer.ended]
    if not whole:
        return 0.0
    return tokens * len(whole) / (max(a.ended for a in whole) - min(a.asked for a in answers))


def share(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


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


def transformers_rows(options: argparse.Namespace) -> list[str]:
    """Each text after the other, as a plain loop serves them; the words of a text come at once, so
    that "first words" are the end of the first text of the client."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.transformers)
    model = AutoModelForCausalLM.from_pretrained(options.transformers).eval()
    rows = []
    for clients in options.clients:
        asked, computed, answers = time.monotonic(), time.process_time(), []
        for index in range(clients):
            ids = tokenizer(prompt(index), return_tensors="pt").input_ids
            ids = ids[:, -(model.config.n_positions - options.tokens) :]
            length = {"min_new_tokens": options.tokens, "max_new_tokens": options.tokens}
            model.generate(ids, do_sample=True, top_k=40, top_p=0.95, temperature=0.8, **length)
            now = time.monotonic()
            answers.append(Answer(asked, [now], now))
        one = Burst(answers, time.process_time() - computed)
        rows.append(row("transformers, a loop", clients, [one], options.tokens, 0))
    return rows


def chart(table: dict[tuple[str, int], list[Burst]], tokens: int) -> str:
    """Tokens a second together by the number of clients, as an SVG of bars."""
    bars = [
        (f"{name}, {clients}", statistics.median(throughput(one.answers, tokens) for one in rounds))
        for (name, clients), rounds in table.items()
    ]
    most = max(value for _, value in bars) or 1
    lines = [
        f'<text x="180" y="{24 * i + 17}" text-anchor="end">{label}</text>'
        f'<rect x="190" y="{24 * i + 4}" width="{400 * value / most:.0f}" height="16"/>'
        f'<text x="{196 + 400 * value / most:.0f}" y="{24 * i + 17}">{value:,.0f}</text>'
        for i, (label, value) in enumerate(bars)
    ]
    size = f'width="660" height="{24 * len(bars) + 28}"'
    title = f'<text x="190" y="{24 * len(bars) + 20}">tokens a second, all clients together</text>'
    style = 'font-family="sans-serif" font-size="12" fill="#38618c"'
    body = "\n".join([*lines, title])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><g {style}>\n{body}\n</g></svg>\n'


if __name__ == "__main__":
    main()
