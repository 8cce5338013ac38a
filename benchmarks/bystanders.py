"""What one visitor can do to the others: the time between their words, beside four kinds of guests.

    python benchmarks/bystanders.py [--model storyteller] [--seconds 20] [--others 4]

The app in a process of its own. Some clients read text after text over raw HTTP, first alone, then
beside a client at another address that, again and again, gives a prompt of 400,000 characters, or
one of 1,000 tokens, or asks for long texts whose words it never reads, or opens 200 streams at
once. The times between the others' words must at most double (p50 and p95).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise

from http_clients import (
    CALL,
    ROOT,
    Answer,
    Server,
    ask_app,
    connection,
    ordered,
    prompt,
    share,
    started,
    visit,
)

sys.path.insert(0, str(ROOT))

from gpt2.machine import core_count

STRANGER = 240  # its number, and so its address
STREAMS = 200
SILENT = 8
_LOST = (OSError, ValueError, asyncio.IncompleteReadError)


async def nobody(server: Server) -> None:
    await asyncio.sleep(0.5)


async def huge_prompt(server: Server) -> None:
    await visit(server, "The lamp was lit at dusk. " * 15_400, 20, STRANGER, False)


async def long_prompt(server: Server) -> None:
    await visit(server, " the" * 1000, 20, STRANGER, False)


async def never_reads(server: Server) -> None:
    """Several at once: the server writes until the system takes no more."""

    async def one() -> None:
        with suppress(_LOST):
            event = await ordered(server.port, prompt(0), 500, STRANGER)
            async with connection(server.port, f"{CALL}/generate/{event}", client=STRANGER):
                await asyncio.sleep(3)

    await asyncio.gather(*(one() for _ in range(SILENT)))


async def flood(server: Server) -> None:
    await visit(server, "", 0, STRANGER, False)  # refused: a text of no tokens


async def many_streams(server: Server) -> None:
    requests = (visit(server, prompt(i), 100, STRANGER, False) for i in range(STREAMS))
    await asyncio.gather(*requests)


GUESTS: dict[str, Callable[[Server], Awaitable[None]]] = {
    "nobody": nobody,
    "a prompt of 400 kB": huge_prompt,
    "a prompt of 1,000 tokens": long_prompt,
    f"{SILENT} that never read": never_reads,
    f"{STREAMS} streams": many_streams,
    "small requests without a pause": flood,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="storyteller")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--others", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--threads", type=int, default=core_count())
    options = parser.parse_args()
    print(f"{options.model}, {options.others} others, {options.seconds:.0f} s a row")
    print(
        "| beside | between words, p50 | p95 | worst | first words | texts | not | rounds | held |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    command = [sys.executable, "app.py", "--model", options.model, "--port"]
    held, alone = True, None
    with started("this app", ROOT, command, "/", ask_app, options.threads) as server:
        asyncio.run(watch(server, options, nobody))  # to warm up
        for name, guest in GUESTS.items():
            answers, rounds = asyncio.run(watch(server, options, guest))
            gaps = sorted(b - a for one in answers for a, b in pairwise(one.words))
            found = (statistics.median(gaps), share(gaps, 0.95))
            alone = alone or found
            fine = all(now <= 2 * before for now, before in zip(found, alone))
            held &= fine
            first = statistics.median(one.words[0] - one.asked for one in answers if one.words)
            times = " | ".join(f"{seconds:.3f} s" for seconds in (*found, gaps[-1], first))
            whole = sum(one.ended is not None for one in answers)
            counts = f"{whole} | {len(answers) - whole} | {rounds}"
            print(f"| {name} | {times} | {counts} | {'yes' if fine else 'no'} |", flush=True)
    return 0 if held else 1


async def watch(
    server: Server, options: argparse.Namespace, guest: Callable[[Server], Awaitable[None]]
) -> tuple[list[Answer], int]:
    """What the others got beside a guest, and how often the guest came."""
    answers: list[Answer] = []

    async def read(number: int) -> None:
        while True:
            one = await visit(server, prompt(number + len(answers)), options.tokens, number, False)
            answers.append(one)

    rounds = 0

    async def come_again() -> None:
        nonlocal rounds
        while True:
            await guest(server)
            rounds += 1

    tasks = [asyncio.create_task(read(number)) for number in range(options.others)]
    tasks.append(asyncio.create_task(come_again()))
    await asyncio.sleep(options.seconds)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if not isinstance(error, asyncio.CancelledError):
            raise error
    return answers, rounds


if __name__ == "__main__":
    sys.exit(main())
