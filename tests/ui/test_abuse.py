"""The short form of benchmarks/abuse.py: a real server under the attacks of tests/support/attacks.

Every kind of attack is here; of those that take long, a part. Nothing is timed but refusals, whose
limit is part of what a refusal is.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from tests.support.app_process import running_app
from tests.support.attacks import ATTACKS
from tests.support.attacks.canary import publish_with_canaries
from tests.support.attacks.client import send_by_client
from tests.support.attacks.flood import flood
from tests.support.attacks.strangers import reach_for_others
from tests.support.attacks.table import (
    Attack,
    Expected,
    Row,
    Stage,
    is_refusal,
    judge,
    reason_of,
    send_all,
)
from tests.support.hub_server import running_hub
from tests.support.site import Reply
from tests.support.toy_runs import make_base

PART = {"text": 5, "file": 3, "setting": 2, "page": 4}  # every so many of a kind


@pytest.fixture(scope="module")
def hub():
    with running_hub() as running:
        yield running


@pytest.fixture(scope="module")
def stage(hub, tmp_path_factory):
    folder = tmp_path_factory.mktemp("abuse")
    base = make_base(folder / "models" / "toy")
    with running_app(folder / "server", str(base), HF_ENDPOINT=hub.url) as app:
        yield replace(Stage.of(app, "toy", "http://127.0.0.1:9"), patience=20.0)


def kinds() -> list[str]:
    return sorted({attack.kind for attack in ATTACKS})


@pytest.mark.parametrize("kind", kinds())
def test_odd_input_is_refused_with_a_reason_or_answered_rightly(stage, kind):
    """Unknown functions, half characters and events that were gone ended in 500 and a traceback."""
    own = [attack for attack in ATTACKS if attack.kind == kind]
    (row,) = send_all(stage, itertools.islice(own, 0, None, PART.get(kind, 1)))
    assert row.faults == []


def test_the_client_library_is_told_why(stage):
    assert send_by_client(stage, every=6).faults == []


def test_no_stranger_gets_at_a_visitors_things(stage):
    row = reach_for_others(stage, 75)
    assert (row.count, row.faults) == (75, [])


def test_tokens_are_nowhere(stage, hub):
    assert publish_with_canaries(stage, hub).faults == []


def test_sessions_leave_nothing(stage):
    flood(stage, 40)  # what is kept once
    assert flood(stage, 160).faults == []


def test_there_are_hundreds_of_kinds_and_each_has_a_name_of_its_own():
    assert len(ATTACKS) > 600
    assert len({(attack.kind, attack.name) for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize(
    ("reply", "expected", "wrong"),
    [
        (Reply(400, '{"detail": "No such thing."}'), Expected.REFUSED, ""),
        (Reply(404, "Not found"), Expected.ANSWERED, "not answered"),
        (Reply(200, "event: complete\ndata: [1]"), Expected.REFUSED, "not refused"),
        (Reply(200, "event: complete\ndata: [1]"), Expected.EITHER, ""),
        (Reply(200, 'event: error\ndata: {"error": null}'), Expected.REFUSED, "no reason"),
        (Reply(500, "Internal Server Error"), Expected.REFUSED, "inside"),
        (Reply(400, "ui/x: hf_CANARYcanaryCANARYcanaryCANARYcan"), Expected.EITHER, "inside"),
        (Reply(400, "Too late, but clear.", 2.5), Expected.REFUSED, "after 2.5 s"),
        (
            Reply(200, '["<p class=\\"error\\" role=\\"status\\">No such.</p>"]'),
            Expected.REFUSED,
            "",
        ),
    ],
)
def test_the_judge_sees_what_is_wrong(reply, expected, wrong):
    """The tests above are worth what it sees."""
    attack = Attack("judged", "one", lambda stage: reply, expected)
    assert wrong in judge(attack, reply)
    assert bool(judge(attack, reply)) == bool(wrong)
    row = Row("judged")
    row.add("one", reply, judge(attack, reply))
    assert (row.count, len(row.faults)) == (1, bool(wrong))
    assert is_refusal(reply) == (row.refused == 1)
    assert not is_refusal(reply) or isinstance(reason_of(reply), str)
