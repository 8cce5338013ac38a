"""Very many odd requests, each from a session of its own: what stays of them?"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from service.ids import new_id
from tests.support.attacks.table import Row, Stage, is_refusal
from tests.support.site import API, Reply, Site, function_named, new_session

MEMORY_BYTES, TEMP_BYTES = 50_000_000, 10_000_000
_WAIT = 2.0  # seconds for what is cleaned up behind an event
Act = Callable[[Site], Reply]


def odd_requests(stage: Stage) -> tuple[Act, ...]:
    """What the flood is made of, in turn."""
    named = {name: function_named(stage.functions, name) for name in ("count", "look", "attach")}

    def event(name: str, *data: object) -> Act:
        return lambda site: site.event(named[name], list(data))

    def look(site: Site) -> Reply:
        who = {"owner": new_id(), "run": new_id()}
        return site.event(named["look"], [who, None, stage.model])

    def unheard(endpoint: str, *data: object) -> Act:
        """Nobody waits for the answer."""
        return lambda site: site.ask("POST", f"{API}/call/{endpoint}", {"data": list(data)})

    def unknown(site: Site) -> Reply:
        return site.ask("GET", f"{API}/queue/data?session_hash={new_session()}")

    return (
        event("count", "long words " * 5_000, stage.model), look,
        lambda site: site.call("run_status", [new_id()]),
        unheard("generate", "x" * 20_000, stage.model, -1),
        event("count", ["x"], {"y": "z" * 20_000}), look,
        lambda site: site.call("generate", ["x", "no such model " * 500]), unknown,
        event("attach", {"owner": new_id(), "run": "x"}, "x" * 20_000),
        lambda site: site.ask("GET", f"/{new_session()}"), abort_upload,
        lambda site: site.call("start_run", ["", {"path": "/etc/passwd"}]), look,
        unheard("run_status", "x" * 20_000),
    )  # fmt: skip


def abort_upload(site: Site, size: int = 200_000) -> Reply:
    """Most of a file, then the line is cut."""
    begun, address = time.monotonic(), urlsplit(site.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as line:
        line.sendall(
            f"POST {API}/upload HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: "
            f"multipart/form-data; boundary=x\r\nContent-Length: {size + 1000}\r\n\r\n--x\r\n"
            'Content-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'.encode()
            + b"a" * size
        )
    return Reply(400, "cut by the client", time.monotonic() - begun)


def flood(stage: Stage, count: int, threads: int = 4) -> Row:
    """Send `count` of them and compare what the server keeps with what it kept before."""
    row, acts = Row("flood of sessions"), odd_requests(stage)
    before, seen = (stage.app.memory(), stage.app.temp_bytes()), len(stage.app.log)
    turns, guard = iter(itertools.islice(itertools.cycle(acts), count)), threading.Lock()

    def work() -> None:
        site = Site(stage.site.url)
        while True:
            with guard:
                act = next(turns, None)
            if act is None:
                return
            reply = act(site)
            with guard:
                row.add("flood", reply, "" if is_refusal(reply) or reply.status == 200 else "cut")

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    time.sleep(_WAIT)
    memory, temp = stage.app.memory() - before[0], stage.app.temp_bytes() - before[1]
    row.note = f"memory {memory / 1e6:+.0f} MB, temp {temp / 1e6:+.1f} MB"
    row.faults = row.faults[:3]
    if memory > MEMORY_BYTES:
        row.faults.append(f"memory grew by {memory / 1e6:.0f} MB")
    if temp > TEMP_BYTES:
        row.faults.append(f"temporary files grew by {temp / 1e6:.0f} MB")
    row.faults += [f"logged {line[:300]}" for line in stage.app.errors(seen)[:3]]
    if not stage.app.is_alive():
        row.faults.append("the server is dead")
    return row
