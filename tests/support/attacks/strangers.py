"""One visitor reaches for what is another's: runs, files, sessions, events, states, downloads."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from service.ids import new_id
from tests.support.attacks.table import Row, Stage
from tests.support.site import API, Reply, Site, function_named, new_session

PRIVATE = "a private sentence that nobody else may read "


@dataclass(frozen=True)
class Victim:
    """Somebody with a run that trains, a file that waits, texts in a session."""

    owner: str
    run: str
    upload: str  # a path
    session: str


def make_victim(stage: Stage) -> Victim:
    owner, session = new_id(), new_session()
    run = stage.start_run(PRIVATE * 100, 20_000, owner)
    compose = function_named(stage.functions, "compose")
    stage.site.event(compose, stage.inputs("compose", None, PRIVATE, stage.model), session)
    upload = stage.site.upload(("private.txt", PRIVATE.encode() * 50)).value[0]
    return Victim(owner, run, upload, session)


def guesses(handle: str, dice: random.Random) -> Iterator[str]:
    """Near and far misses of a random handle, without end."""
    yield from (handle.upper(), handle + "\n", f" {handle}", handle[:-1], handle + "0", "*", "%",
                f"{handle}/..", f"./{handle}", f"{handle}\0", handle[::-1])  # fmt: skip
    while True:
        index = dice.randrange(len(handle))
        letter = dice.choice([c for c in "0123456789abcdef" if c != handle[index]])
        yield handle[:index] + letter + handle[index + 1 :]


def tries(stage: Stage, victim: Victim, dice: random.Random) -> Iterator[tuple[str, Callable]]:
    """(name, a function of a site) without end: all kinds in turn."""
    runs, owners = guesses(victim.run, dice), guesses(victim.owner, dice)
    uploads, sessions = guesses(victim.upload, dice), guesses(victim.session, dice)
    look, retry = (function_named(stage.functions, name) for name in ("look", "retry"))
    attach = function_named(stage.functions, "attach")
    forget = function_named(stage.functions, "forget")
    folder = stage.app.runs / victim.run
    inside = itertools.cycle(["config.json", "tokens/train.bin", "request.json", "log.txt", ""])

    def call(endpoint: str, *data: object):
        return lambda site: site.call(endpoint, list(data))

    def event(function: dict, *data: object):
        return lambda site: site.event(function, list(data))

    def get(path: str):
        return lambda site: site.ask("GET", path)

    while True:
        run = next(runs)
        yield "status", call("run_status", run)
        yield "stop", call("stop_run", run)
        yield "download", call("download_run", run)
        yield "model", call("generate", "x", f"run:{run}")
        yield "look", event(look, {"owner": new_id(), "run": run}, None, stage.model)
        yield "list", event(attach, {"owner": next(owners), "run": None}, stage.model)
        yield "delete", event(forget, {"owner": next(owners), "run": None}, stage.model)
        yield "file of a run", get(f"{API}/file={folder}/{next(inside)}")
        yield "upload by path", get(f"{API}/file={quote(next(uploads))}")
        yield "upload as one's own", call("start_run", "", {"path": next(uploads)}, stage.model)
        listen = f"{API}/queue/data?session_hash={quote(next(sessions))}"
        yield "session", get(listen)
        state = [{"prompt": PRIVATE, "kept": "", "texts": [PRIVATE]}]
        yield "state", event(retry, state, *[None] * (len(retry["inputs"]) - 1))
        yield "event", get(f"{API}/call/generate/{new_id()}")
        cancel = {"session_hash": next(sessions), "fn_index": 2, "event_id": new_id()}
        yield "cancel", lambda site, cancel=cancel: site.ask("POST", f"{API}/cancel", cancel)
        yield "zip", get(f"{API}/file={stage.app.temp}/gradio/download-{new_id()}/toy.zip")


def reach_for_others(stage: Stage, count: int, seed: int = 0) -> Row:
    """`count` attempts; one is through if it shows or changes anything of the victim's."""
    row, victim, site = Row("cross-visitor"), make_victim(stage), Site(stage.site.url)
    seen = len(stage.app.log)
    for name, act in itertools.islice(tries(stage, victim, random.Random(seed)), count):
        reply: Reply = act(site)
        told = reply.text.replace(f"{stage.app.runs}/{victim.run}", "")  # it repeats what was asked
        shown = [word for word in (PRIVATE.strip(), victim.run, victim.owner) if word in told]
        fault = f"shows {shown}: {reply.text[:200]!r}" if shown else ""
        row.add(name, reply, fault)
    if (state := stage.state_of(victim.run)) not in ("queued", "preparing", "training"):
        row.faults.append(f"the victim's run is {state}")
    served = site.ask("GET", f"{API}/file={quote(victim.upload)}")
    if PRIVATE not in served.text:
        row.faults.append("the victim's upload is gone")
    row.faults += [f"logged {line[:300]}" for line in stage.app.errors(seen)[:3]]
    stage.site.call("stop_run", [victim.run])
    return row
