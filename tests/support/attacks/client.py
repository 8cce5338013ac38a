"""Bad inputs by `gradio_client`, the library that programs use."""

from __future__ import annotations

import itertools
import time

from gradio_client import Client

from tests.support.attacks.controls import BAD, ORDER
from tests.support.attacks.protocol import RUNS
from tests.support.attacks.table import Attack, Row, Stage, judge
from tests.support.site import Reply


def send_by_client(stage: Stage, every: int = 1) -> Row:
    row, client = Row("gradio_client"), Client(stage.app.url, verbose=False)
    seen = len(stage.app.log)
    for name, order in itertools.islice(_orders(stage), 0, None, every):
        begun = time.monotonic()
        try:
            reply = Reply(200, str(client.predict(**order)))
        except Exception as error:  # the client's own kinds vary
            reply = Reply(400, str(error), time.monotonic() - begun)
        row.add(name, reply, judge(Attack("client", name, _given), reply, stage.patience))
    row.faults += [f"logged {line[:300]}" for line in stage.app.errors(seen)[:3]]
    return row


def _given(stage: Stage) -> Reply:
    raise AssertionError("it was sent by the client")


def _orders(stage: Stage):
    """(name, arguments of `predict`); values that JSON cannot say are left to raw requests."""
    for name, values in BAD.items():
        for value in itertools.islice((v for v in values if v == v), 3):
            given = {"prompt": "Once", "model": stage.model, name: value}
            yield f"generate with {name} {value!a}", given | {"api_name": "/generate"}
    for name, values in ORDER.items():
        for value in values[:2]:
            given = {"text": "It is a truth. " * 300, "model": stage.model, name: value}
            yield f"start_run with {name} {value!a}", given | {"api_name": "/start_run"}
    for run in RUNS:
        for endpoint in ("/run_status", "/stop_run", "/download_run"):
            yield f"{endpoint} of {run[:40]!a}", {"run": run, "api_name": endpoint}
