"""A server under attack: what gets through, what it keeps, what a normal visitor notices.

    python benchmarks/abuse.py [--short] [--markdown FILE] [--only KIND ...]

The real app in a process and folders of its own. Every row of tests/support/attacks, by the page's
events, `gradio_client`, calls and raw HTTP: each must be refused with a reason in under 2 s, or be
answered rightly, and leave nothing in the log. Then many sessions, whose traces are weighed; one
visitor who reaches for what is another's; tokens, which are searched for; and a normal visitor
while odd requests arrive. Exits with 1 if anything failed. `--short` is the toy model, fewer of
everything, and no timings.
"""

from __future__ import annotations

import argparse
import http.server
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.app_process import running_app
from tests.support.attacks import ATTACKS
from tests.support.attacks.beside import measure_beside
from tests.support.attacks.canary import publish_with_canaries
from tests.support.attacks.client import send_by_client
from tests.support.attacks.flood import flood
from tests.support.attacks.strangers import reach_for_others
from tests.support.attacks.table import Row, Stage, send_all
from tests.support.hub_server import Hub, running_hub
from tests.support.toy_runs import make_base

SESSIONS, STRANGERS, ROUNDS = 10_000, 1_000, 30
SHORT_SESSIONS, SHORT_STRANGERS, SHORT_WARMUP = 300, 150, 100
WARMUP = 500  # requests before the memory is weighed: threads, caches, arenas


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="the toy model, fewer of everything")
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    parser.add_argument("--only", nargs="+", metavar="KIND", help="kinds of attacks or phases")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = attack(Path(folder), options.short, options.only)
    table = as_table(rows)
    print(table)
    faults = [f"{row.kind}: {fault}" for row in rows for fault in row.faults]
    print(*faults, sep="\n")
    print("nothing failed" if not faults else f"{len(faults)} FAILED")
    if options.markdown:
        options.markdown.write_text(table)
    return int(bool(faults))


def attack(folder: Path, short: bool, only: list[str] | None = None) -> list[Row]:
    """All phases against one server; a row each, the attacks a row a kind."""
    model, name = "storyteller", "storyteller"
    if short:
        model, name = str(make_base(folder / "models" / "toy")), "toy"
    with (
        running_hub() as hub,
        far_away() as (address, asked),
        running_app(folder / "server", model, HF_ENDPOINT=hub.url) as app,
    ):
        stage = Stage.of(app, name, address, every=not short)
        stage.start_run("It is a truth. " * 300, 1)  # measures a step of training, once
        rows = list(phases(stage, hub, short, only))
        if asked:
            rows.append(Row("fetched", len(asked), faults=[f"it fetched {asked[:3]}"]))
    return rows


def phases(stage: Stage, hub: Hub, short: bool, only: list[str] | None) -> Iterator[Row]:
    def is_asked(name: str) -> bool:
        return only is None or name in only

    for row in send_all(stage, [one for one in ATTACKS if is_asked(one.kind)]):
        if row.kind == "page":
            row.note = f"each to {len(stage.functions)} functions"
        yield row
    if is_asked("client"):
        yield send_by_client(stage)
    if is_asked("canary"):
        yield publish_with_canaries(stage, hub)
    if is_asked("strangers"):
        yield reach_for_others(stage, SHORT_STRANGERS if short else STRANGERS)
    if is_asked("flood"):
        flood(stage, SHORT_WARMUP if short else WARMUP)
        yield flood(stage, SHORT_SESSIONS if short else SESSIONS)
    if is_asked("beside") and not short:
        yield from measure_beside(stage, ROUNDS)


@contextmanager
def far_away() -> Iterator[tuple[str, list[str]]]:
    """A server of somebody else's, and what it was asked for: nothing, one hopes."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *given: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def as_table(rows: list[Row]) -> str:
    lines = ["| kind | tried | refused | slowest | | verdict |", "|---|---|---|---|---|---|"]
    for row in rows:
        verdict = "held" if not row.faults else f"**{len(row.faults)} failed**"
        lines.append(
            f"| {row.kind} | {row.count:,} | {row.refused:,} | {row.slowest * 1e3:,.0f} ms "
            f"| {row.note} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
