"""A cap on the size of every request.

Gradio's own limit holds for uploaded files only; the other fields of a form, and JSON bodies, are
read into memory however long they are. This counts bytes as they arrive and answers 413.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 64 * 1024 * 1024


class _TooLarge(Exception):
    pass


class BodyLimit:
    """ASGI middleware: a request body above `limit` bytes is refused, announced or not."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif _announced(scope) > self.limit:
            await _refuse(send)
        else:
            await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        received, refused, answering = 0, False, False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise _TooLarge
            return message

        async def watched(message: Message) -> None:
            nonlocal refused, answering
            # A handler may turn the broken body into an answer of its own, such as 400.
            if received > self.limit and not answering:
                if not refused:
                    refused = True
                    await _refuse(send)
                return
            answering = True
            await send(message)

        try:
            await self.app(scope, counted, watched)
        except _TooLarge:
            if not answering and not refused:
                await _refuse(send)


def _announced(scope: Scope) -> int:
    """The body's length by its header; 0 where there is none or it is nonsense."""
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"The request is too large."})
