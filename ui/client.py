"""Who sends a request, as far as it can be told: the address that it comes from.

Everything else in a request can be invented by its sender: cookies, session hashes, the visitor's
id. So whatever one client may take is counted by address. How far that holds:

- Without a proxy, the address is that of the connection: it cannot be forged, and a house or a
  school behind one router is one client. Within a client, sessions take turns.
- Behind a proxy on this machine, uvicorn takes the address from the proxy's X-Forwarded-For.
- On a Space, the platform's proxy adds the address that it saw to X-Forwarded-For, at its end; what
  a visitor wrote there stands before it and is not looked at.
- Behind any other proxy, everybody has the proxy's address and is one client; limits then hold for
  all together, and turns are taken by session.
"""

from __future__ import annotations

import os
from typing import Any

UNKNOWN = "unknown"


def client_of(request: Any) -> str:
    """The client of a starlette or a gradio request; `UNKNOWN` where there is none."""
    request = request[0] if isinstance(request, list) and request else request
    address = getattr(getattr(request, "client", None), "host", None)
    forwarded = request.headers.get("x-forwarded-for", "") if _has_headers(request) else ""
    return _client(address, forwarded)


def streams_of(request: Any) -> list:
    """What is being written for a starlette request: a list that belongs to it."""
    if not hasattr(request.state, "streams"):
        request.state.streams = []
    return request.state.streams


def client_of_scope(scope: dict[str, Any]) -> str:
    """The client of an ASGI request."""
    named = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    forwarded = named[-1].decode("latin-1") if named else ""
    return _client((scope.get("client") or (None,))[0], forwarded)


def _client(address: str | None, forwarded: str) -> str:
    if "SPACE_ID" in os.environ and forwarded:
        return forwarded.rpartition(",")[2].strip()[:60] or UNKNOWN
    return address or UNKNOWN


def _has_headers(request: Any) -> bool:
    return hasattr(getattr(request, "headers", None), "get")
