"""What a row of the table is, and how its outcome is judged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from tests.support.app_process import CANARY, AppProcess
from tests.support.site import Reply, Site, function_named

SECONDS = 2.0  # a refusal takes at most that long
ANSWER_SECONDS = 15.0  # a right answer may be work: a step of training is measured before a run
_SHORTEST = 8  # characters: fewer explain nothing
_INNER = re.compile(
    rf"{CANARY}|Traceback|site-packages|/service/|/ui/|/train/|Something went wrong"
    r"|Internal Server Error"
)


class Expected(Enum):
    REFUSED = "refused, with a reason"
    ANSWERED = "answered rightly"
    EITHER = "refused with a reason, or answered rightly"


@dataclass(frozen=True)
class Stage:
    """The server that is attacked, and what is on it."""

    app: AppProcess
    site: Site
    model: str  # the name of a model that is there
    functions: list[dict]  # of the page
    defaults: dict[int, object]  # of the page's components, by number
    far_away: str = ""  # a server that must never be asked
    every: bool = False  # function of the page; else each handler once
    patience: float = 1.0  # of `judge`

    @classmethod
    def of(cls, app: AppProcess, model: str, far_away: str = "", every: bool = False) -> Stage:
        site = Site(app.url)
        return cls(app, site, model, site.functions(), site.defaults(), far_away, every)

    def inputs(self, name: str, *first: object) -> list[object]:
        """What the page sends to that function, beginning with `first`."""
        numbers = function_named(self.functions, name)["inputs"]
        return [*first, *(self.defaults[number] for number in numbers[len(first) :])]

    def start_run(self, text: str, steps: int, owner: str = "") -> str:
        """The id of a new run."""
        settings = {"steps": steps, "sample_every": 0, "evaluate_every": 0}
        data = [text, None, self.model, "taste", settings, "", owner]
        answer = self.site.call("start_run", data)
        assert "event: complete" in answer.text, answer.text
        return json.loads(answer.text.rpartition("data: ")[2])[0]

    def state_of(self, run: str) -> str:
        text = self.site.call("run_status", [run]).text
        return json.loads(text.rpartition("data: ")[2])[0]["state"]


@dataclass(frozen=True)
class Attack:
    kind: str
    name: str
    send: Callable[[Stage], Reply]
    expected: Expected = Expected.REFUSED
    seconds: float = SECONDS


@dataclass
class Row:
    """What came of one kind of attacks: a line of the table that is printed."""

    kind: str
    count: int = 0
    refused: int = 0
    slowest: float = 0.0  # seconds
    faults: list[str] = field(default_factory=list)
    note: str = ""

    def add(self, name: str, reply: Reply, fault: str) -> None:
        self.count += 1
        self.refused += is_refusal(reply)
        self.slowest = max(self.slowest, reply.seconds)
        if fault:
            self.faults.append(f"{name}: {fault}")


def send_all(stage: Stage, attacks: Iterable[Attack]) -> list[Row]:
    """Every attack in turn, judged by its reply and by what the server logs meanwhile."""
    rows: dict[str, Row] = {}
    for attack in attacks:
        seen = len(stage.app.log)
        reply = attack.send(stage)
        fault = judge(attack, reply, stage.patience)
        if logged := stage.app.errors(seen):
            fault = f"{fault} logged {logged[0][:300]}"
        rows.setdefault(attack.kind, Row(attack.kind)).add(attack.name, reply, fault)
        if not stage.app.is_alive():
            raise SystemExit(f"{attack.kind}, {attack.name}: the server is dead")
    return list(rows.values())


def judge(attack: Attack, reply: Reply, patience: float = 1.0) -> str:
    """What is wrong with the outcome; empty if nothing is. `patience`: on a machine that is busy
    with other things, so many times as long is no fault."""
    refused = is_refusal(reply)
    most = attack.seconds if refused else max(attack.seconds, ANSWER_SECONDS)
    if reply.seconds > patience * most:
        return f"{reply.status} after {reply.seconds:.1f} s"
    if found := _INNER.search(reply.text):
        around = reply.text[max(0, found.start() - 60) : found.end() + 60]
        return f"{reply.status}, shows the inside: {around!r}"
    if attack.expected is Expected.REFUSED and not refused:
        return f"{reply.status}, not refused: {reply.text[-160:]!r}"
    if attack.expected is Expected.ANSWERED and refused:
        return f"{reply.status}, not answered: {reply.text[-160:]!r}"
    if refused and len(reason_of(reply)) < _SHORTEST:
        return f"{reply.status}, no reason: {reply.text[-160:]!r}"
    return ""


def is_refusal(reply: Reply) -> bool:
    if reply.status >= 400:
        return True
    marks = ("event: error", '"success": false', '"success":false', 'class=\\"error', "HTTP/1.1 4")
    return any(mark in reply.text for mark in marks)


def reason_of(reply: Reply) -> str:
    """The words of a refusal, wherever the protocol puts them."""
    if found := re.search(r'class=\\"error\\"[^>]*>(.*?)</p>', reply.text):
        return found[1]
    if found := re.search(r"event: error\ndata: (.*)", reply.text):
        return _words(found[1])
    if found := re.search(r'"output":\s*(\{.*?\})', reply.text):
        return _words(found[1])
    return _words(reply.text)


def _words(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, dict):
        value = value.get("error") or value.get("detail") or ""
    return value if isinstance(value, str) else json.dumps(value or "")
