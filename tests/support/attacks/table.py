"""What a row of the table is, and how its outcome is judged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tests.support.app_process import AppProcess
from tests.support.site import Reply, Site

SECONDS = 2.0  # a refusal takes at most that long
ANSWER_SECONDS = 15.0  # a right answer may be work: a step of training is measured before a run
_SHORTEST = 8  # characters: fewer explain nothing
_INNER = re.compile(
    r"Traceback|site-packages|/service/|/ui/|/train/|Something went wrong|Internal Server Error"
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
    components: dict[int, str]
    far_away: str = ""  # a server that must never be asked
    every: bool = False  # function of the page; else each handler once


@dataclass(frozen=True)
class Attack:
    kind: str
    name: str
    send: Callable[[Stage], Reply]
    expected: Expected = Expected.REFUSED
    seconds: float = SECONDS


def judge(attack: Attack, reply: Reply) -> str:
    """What is wrong with the outcome; empty if nothing is."""
    refused = is_refusal(reply)
    if reply.seconds > (attack.seconds if refused else max(attack.seconds, ANSWER_SECONDS)):
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
