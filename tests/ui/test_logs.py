"""The server's log: one line an event, nothing that a visitor wrote, no tracebacks."""

from __future__ import annotations

import json
import logging
import threading
import traceback
import warnings

import pytest

from ui.logs import structured_log, tell
from ui.messages import explain

SECRET = "hf_canary and a private text"


def fail() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        raise KeyError(SECRET) from None


def caught(act) -> Exception:
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


def lines_of(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_one_line_of_json(capsys):
    with structured_log("json"):
        tell("started", model="Storyteller", runs=3)
        logging.getLogger("gradio.queueing").warning("two\nlines and \x1b[31mred")
        warnings.warn("an old call", stacklevel=1)
    started, gradio, warned = lines_of(capsys)
    assert started.pop("time").endswith("Z")
    assert started == {"level": "info", "event": "started", "model": "Storyteller", "runs": 3}
    assert gradio["logger"] == "gradio.queueing"
    assert gradio["event"] == "two lines and  [31mred"
    assert "an old call" in warned["event"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_error_is_told_by_its_kind_and_place_and_not_by_its_words(form, capsys):
    """Its message may quote what a visitor wrote."""
    with structured_log(form):
        explain(caught(fail), "generating")
        try:
            fail()
        except KeyError:
            traceback.print_exc()  # as gradio does
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 3
    assert "generating failed" in printed
    assert printed.count("KeyError") == 3
    assert printed.count("test_logs.py") >= 3
    for kept_back in (SECRET, "canary", "Traceback", "/tests/ui"):
        assert kept_back not in printed.replace(" tests/ui", "").replace('"tests/ui', "")


def test_what_libraries_merely_mention_is_left_out(capsys):
    with structured_log("json"):
        logging.getLogger("httpx").info("GET https://user:token@somewhere")
        logging.getLogger("asyncio").debug("slow")
    assert capsys.readouterr().err == ""


def test_it_ends_as_it_began(capsys):
    before = (traceback.print_exc, threading.excepthook, logging.getLogger().level)
    with structured_log("json"):
        pass
    assert (traceback.print_exc, threading.excepthook, logging.getLogger().level) == before
    tell("nobody listens")
    assert capsys.readouterr().err == ""
