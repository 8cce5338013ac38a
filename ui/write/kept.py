"""What the browser keeps of the Write tab, so that a reload or a restarted server loses nothing.

It is the visitor's own: it comes back as a text that anybody may have written, and is read as such.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from gpt2.errors import UserError
from gpt2.generate import MAX_PROMPT_BYTES
from gpt2.sampling import resolve_seed
from ui.generation import SETTINGS, Step
from ui.write.controls import typed_settings
from ui.write.history import History, Passage, Press

MAX_KEPT = 4_000_000  # characters; browsers keep some 5 MB
_MAX_TEXTS = 8
_ENDINGS = 60  # characters of a reason


@dataclass(frozen=True)
class Kept:
    """A prompt box, the values of the controls (none: as they are), and what was on the page."""

    prompt: str = ""
    settings: tuple[object, ...] = ()
    history: History = field(default_factory=History)


def keep(history: History) -> str:
    """The page as the browser keeps it; empty for a blank one or too large a one."""
    press = history.press
    if press is None:
        return ""
    step = press.step
    beside = [[one.prompt, one.kept, one.new] for one in press.beside]
    page = {
        "prompt": step.prompt,
        "kept": step.kept,
        "texts": step.texts,
        "tokens": step.tokens,
        "seconds": step.seconds,
        "seed": step.seed,
        "endings": [ending or "stopped" for ending in step.endings],
        "beside": beside,
        "place": press.place,
    }
    text = json.dumps(page)
    return text if len(text) <= MAX_KEPT else ""


def parse_kept(text: object) -> Kept:
    """Whatever of it makes sense."""
    if type(text) is not str or len(text) > 2 * MAX_KEPT:
        return Kept()
    found = _object(text)
    box = _object(found.get("box"))
    prompt = box.get("prompt")
    prompt = prompt if _is_text(prompt) else ""
    return Kept(prompt, _settings(box.get("settings")), _history(_object(found.get("page"))))


def _object(text: object) -> dict:
    try:
        value = json.loads(text) if type(text) is str else None
    except (ValueError, RecursionError):
        value = None
    return value if type(value) is dict else {}


def _is_text(value: object) -> bool:
    return type(value) is str and len(value) <= MAX_PROMPT_BYTES


def _settings(values: object) -> tuple[object, ...]:
    """As the controls had them, if all of them can be."""
    if type(values) is not list or len(values) != len(SETTINGS):
        return ()
    try:
        typed = typed_settings(tuple(values))
        typed["seed"] = resolve_seed(typed["seed"])
        for one in SETTINGS:
            one.within_offer().parse(typed[one.name])
    except (UserError, AttributeError, TypeError):
        return ()
    return tuple(values)


def _history(page: dict) -> History:
    try:
        press = _press(page)
    except (KeyError, TypeError, ValueError):
        return History()
    return History().add(press)


def _press(page: dict) -> Press:
    texts, endings, beside = (_list(page[name]) for name in ("texts", "endings", "beside"))
    strings = [page["prompt"], page["kept"], *texts, *endings]
    strings += [part for one in beside for part in one]
    if not all(map(_is_text, strings)) or not all(len(one) == 3 for one in beside):
        raise ValueError("these are no texts")
    if not texts or len(texts) + len(beside) > _MAX_TEXTS or (beside and len(texts) > 1):
        raise ValueError("too many texts")
    if type(page["place"]) is not int or not 0 <= page["place"] <= len(beside):
        raise ValueError("no such place")
    step = Step(
        page["prompt"],
        page["kept"],
        tuple(texts),
        tokens=_number(page["tokens"], int),
        seconds=_number(page["seconds"], float),
        seed=_number(page["seed"], int),
        endings=tuple(ending[:_ENDINGS] for ending in endings),
    )
    return Press(step, tuple(Passage(*one) for one in beside), page["place"])


def _list(value: object) -> list:
    if type(value) is not list:
        raise ValueError("no list")
    return value


def _number(value: object, kind: type) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1e18:
        raise ValueError("no number")
    return kind(value)
