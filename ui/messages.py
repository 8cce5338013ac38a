"""What the page and the endpoints say, above all when something goes wrong."""

from __future__ import annotations

import functools
import html
import inspect
import logging
from collections.abc import Callable
from typing import Any

from gpt2.errors import UserError, without_paths

BROKEN = "Something went wrong on the server, not with your input. Its log has the cause."
SECONDS_BETWEEN_ANNOUNCEMENTS = 5.0  # so that a screen reader is not interrupted more often
log = logging.getLogger("ui")


def guard(task: str, refuse: Callable[..., Any]) -> Callable:
    """A decorator for handlers: any error becomes what `refuse(words, *inputs)` returns.

    A `UserError` is shown in its own words. Anything else is logged as a failure of `task`, and
    none of it is shown. Generators keep what they have yielded.
    """

    def decorate(handler: Callable) -> Callable:
        if inspect.isgeneratorfunction(handler):

            @functools.wraps(handler)
            def guarded(*inputs):
                try:
                    yield from handler(*inputs)
                except Exception as error:
                    yield refuse(explain(error, task), *inputs)
        else:

            @functools.wraps(handler)
            def guarded(*inputs):
                try:
                    return handler(*inputs)
                except Exception as error:
                    return refuse(explain(error, task), *inputs)

        return guarded

    return decorate


def explain(error: Exception, task: str) -> str:
    """What a visitor is told about an error, without the server's folders; the rest goes to the
    log."""
    if isinstance(error, UserError):
        return without_paths(str(error))
    log.error("%s failed", task, exc_info=error)
    return BROKEN


def line(words: str, kind: str = "hint") -> str:
    """A line in a status region: "hint", "busy", "ready" or "error"."""
    return f'<p class="{kind}" role="status">{html.escape(words)}</p>'


def error_line(words: str, *inputs: object) -> str:
    """For handlers whose only output is such a line."""
    return line(words, "error")


def paragraph(words: str, kind: str = "") -> str:
    """Words in a region that is announced some other way."""
    return f'<p class="{kind}">{html.escape(words)}</p>' if kind else f"<p>{html.escape(words)}</p>"
