"""A normal visitor while others misbehave: how long they wait, compared with a quiet server."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import quantiles

from service.ids import new_id
from tests.support.attacks.flood import odd_requests
from tests.support.attacks.table import Row, Stage, is_refusal
from tests.support.site import Reply, Site, function_named

SOCKETS, PER_SECOND, TIMES = 10, 20, 3.0
_NEXT = 0.05  # seconds between two acts of the visitor


def visitor(stage: Stage) -> dict[str, Callable[[], Reply]]:
    """What somebody does who uses the page."""
    site, owner, made = Site(stage.site.url, address="127.0.0.2"), new_id(), []
    look = function_named(stage.functions, "look")
    text = [f"Once {time.monotonic()}", stage.model, 20]

    def start() -> Reply:
        settings = {"steps": 50, "sample_every": 0}
        data = ["It is a truth. " * 300, None, stage.model, "taste", settings, "", owner]
        reply = site.call("start_run", data)
        made.append(reply.text.rpartition('["')[2][:32])
        return reply

    def see() -> Reply:
        who = {"owner": owner, "run": made[-1]}
        return site.event(look, [who, None, stage.model], owner[:12])

    return {
        "generation": lambda: site.call("generate", text),
        "start": start,
        "look": see,
        "status": lambda: site.call("run_status", [made[-1]]),
        "stop": lambda: site.call("stop_run", [made[-1]]),
    }


def measure(stage: Stage, rounds: int) -> tuple[dict[str, list[float]], list[str]]:
    """Seconds of each act, and what was refused."""
    acts, refused = visitor(stage), []
    seconds: dict[str, list[float]] = {name: [] for name in acts}
    for _, (name, act) in itertools.product(range(rounds), acts.items()):
        reply = act()
        seconds[name].append(reply.seconds)
        if is_refusal(reply) or reply.status != 200:
            refused.append(f"{name}: {reply.status} {reply.text[-160:]!r}")
        time.sleep(_NEXT)
    return seconds, refused


@contextmanager
def under_fire(stage: Stage) -> Iterator[None]:
    """Odd requests from many sockets, so many a second in all."""
    over, acts = threading.Event(), itertools.cycle(odd_requests(stage))

    def fire() -> None:
        site = Site(stage.site.url)
        while not over.wait(SOCKETS / PER_SECOND):
            next(acts)(site)

    guns = [threading.Thread(target=fire) for _ in range(SOCKETS)]
    for gun in guns:
        gun.start()
    try:
        yield
    finally:
        over.set()
        for gun in guns:
            gun.join()


def measure_beside(stage: Stage, rounds: int) -> list[Row]:
    """One row an act, its p95 under fire over its quiet one."""
    measure(stage, 2)  # what is slow only once
    quiet, refused = measure(stage, rounds)
    with under_fire(stage):
        loud, more = measure(stage, rounds)
    rows = []
    for name in quiet:
        before, now = p95(quiet[name]), p95(loud[name])
        row = Row(f"beside: {name}", rounds, slowest=max(loud[name]))
        row.note = f"p95 {before * 1e3:.0f} ms, under fire {now * 1e3:.0f} ms ({now / before:.1f}x)"
        if now > TIMES * before:
            row.faults.append(f"{now / before:.1f} times its quiet p95")
        row.faults += [words for words in (*refused, *more) if words.startswith(f"{name}:")][:2]
        rows.append(row)
    return rows


def p95(seconds: list[float]) -> float:
    return quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
