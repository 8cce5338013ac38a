"""A token on the machine, and one that a visitor types: where are they afterward?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from service.ids import new_id
from tests.support.app_process import CANARY, workers_of
from tests.support.app_server import wait_until
from tests.support.attacks.table import Row, Stage, is_refusal
from tests.support.hub_server import Hub
from tests.support.site import Reply, function_named, new_session

TYPED = "hf_TYPEDcanaryTYPEDcanaryTYPEDcanary"


def publish_with_canaries(stage: Stage, hub: Hub) -> Row:
    """Push a run with a typed token that works and with one that does not, and, as a stranger, with
    none; then look everywhere."""
    row = Row("canary token")
    hub.users[TYPED] = "ann"
    run = stage.start_run("It is a truth. " * 300, 2)
    environments = b""

    def is_done() -> bool:
        nonlocal environments
        environments += b"".join(_environments(stage.app.runs))
        return stage.state_of(run) == "done"

    wait_until(is_done, "a run to publish", 120)
    step = _last_step(stage, run)
    push, look = (function_named(stage.functions, name) for name in ("_push_here", "look"))
    who, session = {"owner": new_id(), "run": run}, new_session()
    stage.site.event(look, [who, None, stage.model], session)  # offers the checkpoints
    proxied = {"X-Forwarded-For": "203.0.113.9"}
    replies: list[Reply] = []
    for token, repository, headers, refused in (
        (TYPED, "mine", {}, False),
        (TYPED, "somebody/else", {}, True),
        (TYPED + "x", "mine", {}, True),
        ("", "stolen", proxied, True),
        ("", "stolen", {"Origin": "http://evil.example"}, True),
        ("", "stolen", {"Host": "evil.example"}, True),
    ):
        reply = stage.site.event(push, [token, who, step, repository, True], session, headers)
        replies.append(reply)
        wrong = "" if is_refusal(reply) is refused else f"{reply.status} {reply.text[-300:]!r}"
        row.add(f"publish {repository} {headers}", reply, wrong)
    if any("stolen" in name for name in hub.repositories):
        row.faults.append("a stranger published with the saved token")
    places = [*_files_with(stage.app.folder), *(b"a reply" for r in replies if TYPED in r.text)]
    row.faults += [f"a token is in {place!r}" for place in places]
    if CANARY.encode() in environments:
        row.faults.append("the saved token is in the environment of a worker")
    return row


def _last_step(stage: Stage, run: str) -> int:
    return max(int(p.name[5:]) for p in (stage.app.runs / run / "checkpoints").glob("step-*"))


def _files_with(folder: Path) -> Iterator[str]:
    """Files with a token inside; the place where the machine's own is saved is none."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            if path == folder / "hub" / "token":
                continue
            content = path.read_bytes() if path.is_file() else b""
            if CANARY.encode() in content or TYPED.encode() in content:
                yield str(path.relative_to(folder))


def _environments(runs: Path) -> Iterator[bytes]:
    for pid in workers_of(runs):
        try:
            yield Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
