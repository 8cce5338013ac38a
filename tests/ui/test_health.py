"""`GET /health` over real HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from gpt2.system import resident_bytes
from service.ids import new_id
from tests.support.app_server import wait_until
from tests.support.toy_runs import LONG, make_request


def get(server, method: str = "GET"):
    request = urllib.request.Request(f"{server.url}/health", method=method)
    return urllib.request.urlopen(request, timeout=10)


def test_it_says_how_the_server_is(toy_server):
    with get(toy_server) as answer:
        found = json.load(answer)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert set(found) == {
        "status", "model", "queue", "runs", "memory_bytes", "disk_free_bytes", "disk_used_bytes",
        "version", "uptime_seconds",
    }  # fmt: skip
    assert (found["status"], found["model"], found["queue"]) == ("ok", "toy", 0)
    assert found["memory_bytes"] > 50e6
    assert found["disk_free_bytes"] > 0
    assert found["uptime_seconds"] > 0


def test_it_counts_runs_and_names_none(toy_server):
    runs, owner = toy_server.runs, new_id()
    request = make_request(toy_server.models.find("toy").source, LONG)
    made = [runs.create(request, owner) for _ in range(2)]
    try:
        wait_until(lambda: runs.counts()["running"] == 1, "the first run", 30)
        with get(toy_server) as answer:
            text = answer.read().decode()
        assert json.loads(text)["runs"] == {"waiting": 1, "running": 1, "ended": 0}
        assert not any(secret in text for secret in (*made, owner, str(runs.folder)))
    finally:
        runs.delete_owner(owner)
    assert runs.counts() == {"waiting": 0, "running": 0, "ended": 0}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_can_only_be_read(toy_server, method):
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(toy_server, method)
    assert refused.value.code == 405


def test_memory_of_a_process_that_is_gone_is_unknown():
    assert resident_bytes() > 1e6
    assert resident_bytes(2**22 + 1) is None
