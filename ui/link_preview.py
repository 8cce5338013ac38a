"""What other sites show of a link to this page: its title and what it is, in place of gradio's own
tags, which name gradio and an address that was never filled in."""

from __future__ import annotations

import html
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.front_door import path_of

_TAGS = re.compile(rb'\s*<meta\s+(?:property="og:|name="twitter:|name="description)[^>]*>')
_HEAD = b"<head>"


class LinkPreview:
    """ASGI middleware: the head of the page's HTML, and nothing else, is changed."""

    def __init__(self, app: ASGIApp, title: str, about: str) -> None:
        self._app = app
        title, about = html.escape(title), html.escape(about)
        self._tags = (
            f'<meta name="description" content="{about}">'
            f'<meta property="og:title" content="{title}">'
            f'<meta property="og:description" content="{about}">'
            '<meta property="og:type" content="website">'
            '<meta name="twitter:card" content="summary">'
        ).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and path_of(scope) == "/":
            send = _Page(send, self._tags).send
        await self._app(scope, receive, send)


class _Page:
    """Holds the HTML back until it is whole."""

    def __init__(self, send: Send, tags: bytes) -> None:
        self._send, self._tags = send, tags
        self._start: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = _TAGS.sub(b"", self._body).replace(_HEAD, _HEAD + self._tags, 1)
        headers = [pair for pair in self._start["headers"] if pair[0] != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send(self._start | {"headers": headers})
        await self._send({"type": "http.response.body", "body": body})
