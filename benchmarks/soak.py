"""What a server keeps after very many visitors, and whether it stops for those who left.

    python benchmarks/soak.py [--generations 2000] [--runs 50] [--abandoned 200] [--seed 0]

The real app with a toy model. Descriptors, threads, files and memory are noted after every
generation and every run, each run by a visitor of its own who deletes it at the end; the last tenth
must not lie above the first. Then generations are abandoned at random, in every way that a client
has, while forwards are counted: the computation must end within two tokens, and the only slot must
be free for the next one. Linux (/proc).
"""

from __future__ import annotations

import argparse
import collections
import http.client
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).parent.parent))

import pytest

from service.ids import new_id
from tests.support.app_process import AppProcess, running_app
from tests.support.app_server import Server, make_tiny_model, serve, wait_until
from tests.support.attacks.table import Stage
from tests.support.site import API, Reply, Site, function_named, new_session
from tests.support.toy_runs import make_base

# How far the last tenth may lie above the first.
ALLOWED = {"descriptors": 2.0, "threads": 2.0, "files": 2.0, "memory MB": 10.0}
TOKENS_AFTER = 2
PAUSE = 0.15  # seconds a token: the page is told of each, as with a large model
SLOT_SECONDS = 10.0  # on a busy machine; 0.1 on a quiet one
# Generations before anything is noted: gradio keeps 1000 sessions and the messages of 2000, each of
# these calls is one, and only what grows without end is looked for.
_WARM_UP = 2100
TEXT = "It is a truth universally acknowledged. " * 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, count in (("generations", 2000), ("runs", 50), ("abandoned", 200), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        base = make_base(Path(folder) / "models" / "toy")
        with running_app(Path(folder) / "server", str(base)) as app:
            stage = Stage.of(app, "toy")
            repeat(stage, _WARM_UP, generate_once)
            failed += soak(stage, "generations", options.generations, generate_once)
            repeat(stage, min(2, options.runs), train_once)
            failed += soak(stage, "runs", options.runs, train_once)
            errors = app.errors()
            print(*errors[:3], sep="\n")
        failed += abandon(Path(folder), options.abandoned, random.Random(options.seed))
    failed += len(errors)
    print("nothing failed" if not failed else f"{failed} FAILED")
    return int(failed > 0)


def soak(stage: Stage, what: str, count: int, act: Callable[[Stage], None]) -> int:
    """Do it so often; returns in how many figures the last tenth lies above the first."""
    if not count:
        return 0
    noted: list[dict[str, float]] = []
    repeat(stage, count, act, lambda: noted.append(figures(stage.app)))
    tenth = max(1, count // 10)
    failed = 0
    print(f"{count} {what}: the first tenth and the last")
    for name, allowed in ALLOWED.items():
        first, last = (mean(one[name] for one in part) for part in (noted[:tenth], noted[-tenth:]))
        grew = last - first > allowed
        failed += grew
        print(f"    {name}: {first:.1f}, {last:.1f}{'  GREW' if grew else ''}", flush=True)
    return failed


def repeat(
    stage: Stage, count: int, act: Callable[[Stage], None], note: Callable = lambda: None
) -> None:
    for _ in range(count):
        act(stage)
        note()


def figures(app: AppProcess) -> dict[str, float]:
    files = sum(path.is_file() for place in (app.temp, app.runs) for path in place.rglob("*"))
    return {
        "descriptors": app.descriptors(),
        "threads": app.threads(),
        "files": files,
        "memory MB": app.memory() / 1e6,
    }


def generate_once(stage: Stage) -> None:
    reply = stage.site.call("generate", [f"Once {time.monotonic()}", stage.model, 8])
    assert "event: complete" in reply.text, reply


def train_once(stage: Stage) -> None:
    """A run from its start to its zip; then its visitor deletes everything."""
    owner = new_id()
    run = stage.start_run(TEXT, 5, owner)
    wait_until(lambda: stage.state_of(run) == "done", "a run", 300)
    reply = stage.site.call("download_run", [run])
    assert "event: complete" in reply.text, reply
    forget = function_named(stage.functions, "forget")
    stage.site.event(forget, [{"owner": owner, "run": run}, None])


# ---- leaving


def abandon(folder: Path, count: int, dice: random.Random) -> int:
    """Begin generations and leave at random; returns how often the server went on, or did not come
    back."""
    if not count:
        return 0
    after: collections.Counter[int] = collections.Counter()
    slots, failed = [], 0
    model = make_tiny_model(folder / "models" / "tiny")
    with pytest.MonkeyPatch.context() as patch, serve(str(model), patch) as server:
        ways = list(WAYS.items())
        for number in range(count):
            name, leave = ways[number % len(ways)]
            more = tokens_after(server, leave, dice.uniform(0.0, 1.2))
            after[more] += 1
            begun = time.monotonic()
            reply = Site(server.url).call("generate", ["Once", "tiny", 1])
            slots.append(time.monotonic() - begun)
            wrong = more > TOKENS_AFTER or "event: complete" not in reply.text
            if wrong or slots[-1] > SLOT_SECONDS:
                failed += 1
                print(f"    {name}: {more} tokens more, slot after {slots[-1]:.2f} s", flush=True)
    spread = ", ".join(f"{tokens}: {times}" for tokens, times in sorted(after.items()))
    print(
        f"{count} generations abandoned: tokens computed afterward {{{spread}}}; the slot was free "
        f"after at most {max(slots):.2f} s; {failed} failed"
    )
    return failed


def tokens_after(server: Server, leave: Callable, seconds: float) -> int:
    """Begin, leave after so long, and count what is computed after leaving."""
    server.forwards.pause, server.forwards.count = PAUSE, 0
    seen = leave(server, seconds)
    more = server.forwards.after_quiet(1.0) - seen
    server.forwards.pause = 0.0
    return more


def _begin(server: Server, session: str) -> tuple[Site, str]:
    site = Site(server.url)
    body = {"data": ["Once", "tiny", 500], "session_hash": session}
    reply: Reply = site.ask("POST", f"{API}/call/generate", body)
    return site, reply.value["event_id"]


def _open(server: Server, event: str) -> http.client.HTTPConnection:
    stream = http.client.HTTPConnection(server.url.partition("://")[2], timeout=30)
    stream.request("GET", f"{API}/call/generate/{event}")
    return stream


def leave_stream(server: Server, seconds: float) -> int:
    """The tab is closed: the line is cut."""
    _, event = _begin(server, new_session())
    stream = _open(server, event)
    server.forwards.wait_for(1)
    time.sleep(seconds)
    stream.sock.close()
    return server.forwards.count


def leave_by_cancel(server: Server, seconds: float) -> int:
    """Stop is pressed, as `gradio_client` does it, and the line is kept."""
    session = new_session()
    site, event = _begin(server, session)
    stream = _open(server, event)
    server.forwards.wait_for(1)
    time.sleep(seconds)
    cancel = {"session_hash": session, "fn_index": _generate(server), "event_id": event}
    site.ask("POST", f"{API}/cancel", cancel)
    seen = server.forwards.count
    stream.close()
    return seen


def leave_unheard(server: Server, seconds: float) -> int:
    """The page listens to its queue, presses Stop and is closed at once."""
    session = new_session()
    site, event = _begin(server, session)
    stream = http.client.HTTPConnection(server.url.partition("://")[2], timeout=30)
    stream.request("GET", f"{API}/queue/data?session_hash={session}")
    server.forwards.wait_for(1)
    time.sleep(seconds)
    stream.sock.close()
    cancel = {"session_hash": session, "fn_index": _generate(server), "event_id": event}
    site.ask("POST", f"{API}/cancel", cancel)
    return server.forwards.count


def _generate(server: Server) -> int:
    rows = server.get("/config")["dependencies"]
    return function_named(rows, "generate")["id"]


WAYS = {"cut": leave_stream, "cancelled": leave_by_cancel, "closed": leave_unheard}


if __name__ == "__main__":
    sys.exit(main())
