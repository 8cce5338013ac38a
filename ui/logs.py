"""The server's log: one line an event on stderr, as text or as JSON.

What libraries record, and the tracebacks that they print, come here too. An error is told by its
kind and the places in the code that it passed, never by its message: that may quote what a visitor
wrote, or a token.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

LOG_FORMATS = ("text", "json")
_OWN = ("app", "gpt2", "train", "service", "ui")  # of others, only what went wrong is told
_PLACES = 12  # of an error, the innermost
_ROOT = str(Path(__file__).parents[1])
_LONGEST = 300  # characters of an event's words
_LOG = logging.getLogger("app")


def tell(event: str, **facts: object) -> None:
    """Log an event of the server itself with plain facts: no ids, no words of visitors."""
    _LOG.info(event, extra={"facts": facts})


@contextmanager
def structured_log(form: str) -> Iterator[None]:
    """Inside, all that this process logs is lines of `form`, one of `LOG_FORMATS`."""
    root, handler = logging.getLogger(), _Stderr(form)
    level, print_exc, hook = root.level, traceback.print_exc, threading.excepthook
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in _OWN:
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(True)
    _quiet_uvicorn()
    traceback.print_exc = _log_traceback  # gradio has no other way to tell of an error
    threading.excepthook = _log_thread
    try:
        yield
    finally:
        traceback.print_exc, threading.excepthook = print_exc, hook
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(level)
        for name in _OWN:
            logging.getLogger(name).setLevel(logging.NOTSET)


class _Stderr(logging.Handler):
    def __init__(self, form: str) -> None:
        super().__init__()
        self._write = _as_json if form == "json" else _as_text

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):  # nobody reads stderr any more
            print(self._write(facts_of(record)), file=sys.stderr, flush=True)


def facts_of(record: logging.LogRecord) -> dict[str, object]:
    """A record as plain values: time, level, event, and what else is known."""
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    facts: dict[str, object] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": _plain(record.getMessage()),
    }
    if record.name != _LOG.name:
        facts["logger"] = record.name
    if record.exc_info and record.exc_info[0]:
        facts |= _error_facts(record.exc_info[1], record.exc_info[2])
    return facts | getattr(record, "facts", {})


def _error_facts(error: BaseException | None, trace: TracebackType | None) -> dict[str, object]:
    frames = traceback.extract_tb(trace)[-_PLACES:]
    where = [f"{_place(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
    kinds = [type(error).__name__]
    while error is not None and (error := error.__cause__ or error.__context__):
        kinds.append(type(error).__name__)
        if len(kinds) == _PLACES:
            break
    return {"error": " from ".join(kinds), "where": where}


def _place(file: str) -> str:
    """A source file by its module's place, not by where this machine keeps it."""
    for mark in ("site-packages/", f"{_ROOT}/"):
        if mark in file:
            return file.rpartition(mark)[2]
    return Path(file).name


def _plain(words: str) -> str:
    """One line that a terminal shows as it is: no escape of a visitor's input acts there."""
    line = "".join(letter if letter.isprintable() else " " for letter in words)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _as_json(facts: dict[str, object]) -> str:
    return json.dumps(facts)


def _as_text(facts: dict[str, object]) -> str:
    head = " ".join(str(facts.pop(name)) for name in ("time", "level", "event"))
    where = facts.pop("where", [])
    rest = "".join(f" {name}={_plain(str(value))}" for name, value in facts.items())
    return head + rest + (f" at {' > '.join(where)}" if where else "")


def _log_traceback(limit: object = None, file: object = None, chain: bool = True) -> None:
    """In place of `traceback.print_exc`."""
    _LOG.error("an error was caught", exc_info=True)


def _log_thread(given: threading.ExceptHookArgs) -> None:
    info = (given.exc_type, given.exc_value, given.exc_traceback)
    _LOG.error("a thread ended with an error", exc_info=info)


def _quiet_uvicorn() -> None:
    """Its loggers have no handlers of their own, so their records come to the root's."""
    from uvicorn.config import LOGGING_CONFIG

    LOGGING_CONFIG["handlers"], LOGGING_CONFIG["loggers"] = {}, {}
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # of an earlier server
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
