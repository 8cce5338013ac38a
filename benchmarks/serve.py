"""Many clients at once over raw HTTP: how fast the texts come, together and for each client.

    python benchmarks/serve.py [--model storyteller] [--clients 1 4 8 16 32 64] [--markdown FILE]
        [--chart FILE.svg] [--app DIR] [--threads N] [--steady SECONDS]
        [--llama-server PATH --gguf FILE] [--transformers FOLDER]

It starts the app in a process of its own; `--app DIR`, which may be repeated, starts another
checkout, say of an earlier commit. All servers take turns, at every number of clients. Every client
asks for `--tokens` tokens with a prompt of its own, some short, some long; a burst is one request
of each at the same moment. Before each there is one that is not timed, of which a third leave at
their first words. With `--steady`, every client also asks again as soon as it was served. The same
clients can ask llama.cpp's server, with as many slots as clients, for a model converted from the
same folder; `transformers` generates the texts one after the other.

Columns: tokens a second of all together and of a client (median); seconds to the first words
(median and p95) and between words (p95); how many were refused in words, or failed; how long the
server's process computed for a token, which says most on a busy machine; its peak memory.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from itertools import chain, pairwise, product
from pathlib import Path

from http_clients import (
    LENGTHS,
    ROOT,
    Answer,
    Burst,
    Server,
    ask_app,
    ask_llama,
    cpu_seconds,
    peak_mb,
    prompt,
    share,
    started,
    visit,
)

sys.path.insert(0, str(ROOT))

from gpt2.machine import core_count

HEAD = (
    "| server | clients | tokens/s together | each | first words, s | p95 | between, p95 | refused "
    "| failed | CPU ms a token | MB |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


STEADY = ", steady"  # behind a server's name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="storyteller")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8, 16, 32, 64])
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--steady", type=float, default=0, metavar="SECONDS", help="also ask again and again"
    )
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
    tokens = options.tokens
    with ExitStack() as stack:
        servers = [stack.enter_context(start()) for start in starters(options)]
        for server in servers:
            asyncio.run(burst(server, 2, options.tokens))  # to warm up
        for _ in range(options.rounds):
            for clients, server in product(options.clients, servers):
                asyncio.run(burst(server, clients, tokens, leaving=3))
                one = measured(server, burst(server, clients, tokens))
                table.setdefault((server.name, clients), []).append(one)
                print(row(server.name, clients, [one], tokens, 0), file=sys.stderr)
        for clients, server in product(options.clients if options.steady else (), servers):
            one = measured(server, steady(server, clients, tokens, options.steady))
            table[server.name + STEADY, clients] = [one]
        memory = {server.name: peak_mb(server.process) for server in servers}
    report = [describe(options), "", *HEAD]
    for (name, clients), rounds in table.items():
        mb = memory[name.removesuffix(STEADY)]
        report.append(row(name, clients, rounds, tokens, mb))
    report += ratios(table, tokens)
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


async def burst(server: Server, clients: int, tokens: int, leaving: int = 0) -> list[Answer]:
    """One request of every client at the same moment; every `leaving`-th leaves at once."""
    requests = (
        visit(server, prompt(i), tokens, i, bool(leaving) and i % leaving == 0)
        for i in range(clients)
    )
    return await asyncio.gather(*requests)


async def steady(server: Server, clients: int, tokens: int, seconds: float) -> list[Answer]:
    """Every client asks again as soon as it was served, for so long."""

    async def client(number: int, until: float) -> list[Answer]:
        answers = []
        while time.monotonic() < until:
            seed = number + clients * len(answers)
            answers.append(await visit(server, prompt(seed), tokens, number, False))
        return answers

    until = time.monotonic() + seconds
    served = await asyncio.gather(*(client(number, until) for number in range(clients)))
    return list(chain.from_iterable(served))


def measured(server: Server, load: Coroutine[None, None, list[Answer]]) -> Burst:
    before = cpu_seconds(server.process)
    answers = asyncio.run(load)
    return Burst(answers, cpu_seconds(server.process) - before)


def row(name: str, clients: int, rounds: list[Burst], tokens: int, mb: int) -> str:
    answers = [answer for one in rounds for answer in one.answers]
    whole = [answer for answer in answers if answer.ended]
    first = sorted(answer.words[0] - answer.asked for answer in answers if answer.words)
    between = sorted(b - a for answer in answers for a, b in pairwise(answer.words))
    refused = sum(answer.refused for answer in answers)
    together = statistics.median(throughput(one.answers, tokens) for one in rounds)
    cpu = statistics.median(1000 * one.cpu / (tokens * len(one.answers)) for one in rounds)
    each = statistics.median([tokens / (one.ended - one.asked) for one in whole] or [0])
    numbers = f"{together:,.0f} | {each:,.0f} | {share(first, 0.5):.2f} | {share(first, 0.95):.2f}"
    numbers += f" | {share(between, 0.95):.2f} | {refused} | {len(answers) - len(whole) - refused}"
    return f"| {name} | {clients} | {numbers} | {cpu:.2f} | {mb} |"


def ratios(table: dict[tuple[str, int], list[Burst]], tokens: int) -> list[str]:
    """The first server's tokens a second over each other's, round by round: the median, and the
    interval that holds the true one with at least 95 % (by order, from 6 rounds on)."""
    names = list(dict.fromkeys(name for name, _ in table))
    lines = [""]
    for (name, clients), rounds in table.items():
        ours = table[names[0], clients]
        if name == names[0] or name.endswith(STEADY) or len(rounds) < 6 or len(ours) != len(rounds):
            continue
        both = zip(ours, rounds)
        found = sorted(
            throughput(a.answers, tokens) / max(throughput(b.answers, tokens), 1e-9)
            for a, b in both
        )
        out = next(k for k in range(len(found)) if binomial_below(k, len(found)) > 0.025)
        interval = f"{found[max(out - 1, 0)]:.2f} to {found[-max(out, 1)]:.2f}"
        middle = statistics.median(found)
        lines.append(f"{names[0]} / {name}, {clients} clients: {middle:.2f} ({interval})")
    return lines


def binomial_below(most: int, count: int) -> float:
    """The chance of at most so many heads in `count` throws."""
    return sum(math.comb(count, heads) for heads in range(most + 1)) / 2**count


def throughput(answers: list[Answer], tokens: int) -> float:
    """Tokens of whole texts by the time from the first request to the last word."""
    whole = [answer for answer in answers if answer.ended]
    if not whole:
        return 0.0
    return tokens * len(whole) / (max(a.ended for a in whole) - min(a.asked for a in answers))


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
