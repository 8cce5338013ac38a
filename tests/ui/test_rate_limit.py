"""One client that asks without a pause may not take the others' words."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from tests.support.event_loop import run_async
from ui import rate_limit
from ui.front_door import FrontDoor
from ui.rate_limit import BURST, PER_SECOND, RateLimit


class Clock:
    """Sleeping passes the time of this clock and no other."""

    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(rate_limit, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(rate_limit, "asyncio", SimpleNamespace(sleep=self.sleep))

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def admit(limit: RateLimit, client: str, count: int, cost: float = 1.0) -> bool:
    async def all_of_them() -> bool:
        return all([await limit.admit(client, cost) for _ in range(count)])

    return run_async(all_of_them())


def test_a_burst_waits_for_nothing_and_what_follows_comes_at_the_rate(clock):
    limit, begun = RateLimit(), clock.now
    assert admit(limit, "a", int(BURST))
    assert clock.now == begun
    assert admit(limit, "a", 80)
    assert clock.now - begun == pytest.approx(80 / PER_SECOND)


def test_another_client_waits_for_nothing(clock):
    limit = RateLimit()
    admit(limit, "a", 2 * int(BURST))
    begun = clock.now
    assert admit(limit, "b", int(BURST))
    assert clock.now == begun


def test_a_pause_gives_the_burst_back_and_not_more(clock):
    limit = RateLimit()
    admit(limit, "a", 2 * int(BURST))
    clock.now += 1000
    begun = clock.now
    admit(limit, "a", int(BURST) + 4)
    assert clock.now - begun == pytest.approx(4 / PER_SECOND)


def test_small_files_cost_little(clock):
    limit, begun = RateLimit(), clock.now
    admit(limit, "a", 1000, cost=0.02)
    assert clock.now == begun


def test_a_crowd_that_waits_is_refused_and_forgotten(monkeypatch):
    monkeypatch.setattr(rate_limit, "WAITING", 3)

    async def crowd() -> tuple[int, int]:
        limit = RateLimit()
        limit._bucket("a", time.monotonic()).left = 0
        tasks = [asyncio.create_task(limit.admit("a")) for _ in range(5)]
        await asyncio.sleep(0)
        refused = sum(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return refused, limit._bucket("a", time.monotonic()).waiting

    assert run_async(crowd()) == (2, 0)


def test_clients_are_forgotten(clock, monkeypatch):
    monkeypatch.setattr(rate_limit, "_CLIENTS", 10)
    limit = RateLimit()
    for number in range(100):
        admit(limit, str(number), 1)
    assert len(limit._buckets) == 10


def test_the_front_door_asks_for_patience(monkeypatch):
    """A client that asked 120 times a second left the others a seventh of their words."""
    monkeypatch.setattr(rate_limit, "BURST", 3.0)
    monkeypatch.setattr(rate_limit, "PER_SECOND", 1e6)
    client = TestClient(FrontDoor(PlainTextResponse("hello")))
    assert [client.get("/").status_code for _ in range(9)] == [200] * 9
    monkeypatch.setattr(rate_limit, "WAITING", 0)
    answer = client.get("/")
    assert (answer.status_code, "Wait a moment" in answer.text) == (429, True)
