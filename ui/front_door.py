"""The one door for every request: who may knock, which paths are open, how much may come in.

Gradio reads forms and JSON bodies into memory, no matter how long they are or take, and has many
routes that neither the page nor its clients use. Here a request is refused before gradio sees it:
a path that is not open (404), a body that is too large (413) or too slow (408), or more bytes in
flight than the server has room for (503), or files for which there is no room (507, 429), or a
crowd of requests from one client, which is made to ask slowly (429). A page of another site is
refused (403). So is a foreign name for this server if it listens
only to this machine: otherwise a site whose name points to 127.0.0.1 could use it on behalf of its
visitor (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt2.files import is_disk_full
from ui.client import client_of_scope
from ui.rate_limit import RateLimit
from ui.room import UploadRoom

KB, MB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Route:
    """What is open: methods, paths, and the most bytes in a body."""

    methods: tuple[str, ...]
    path: re.Pattern[str]
    body: int = 0
    files: bool = False  # whether the body is kept on the disk
    cost: float = 1.0  # of a request, to the client's rate


def _route(methods: str, path: str, body: int = 0, files: bool = False, cost: float = 1.0) -> Route:
    return Route(tuple(methods.split()), re.compile(path), body, files, cost)


SHARE_HOST = ".gradio.live"
NOTEBOOKS = ("https://*.googleusercontent.com", "https://colab.research.google.com")  # of --share
# The public functions; the page's own have no address.
ENDPOINTS = ("generate", "start_run", "run_status", "stop_run", "download_run")
_CALL = rf"/gradio_api/call/(v2/)?({'|'.join(ENDPOINTS)})"
# What the page, gradio_client and plain HTTP calls use; anything else does not exist.
ROUTES = (
    _route("GET HEAD", r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json"),
    _route("GET", r"/health"),
    # Small files, of which a page has many.
    _route("GET HEAD", r"/(static|assets|svelte)/[\w./+@-]+|/pwa_icon(/\d+)?", cost=0.02),
    _route("GET HEAD", r"/gradio_api/(info|openapi\.json|startup-events|app_id|theme\.css)/?"),
    _route("GET HEAD", r"/gradio_api/(heartbeat/\w+|queue/data|upload_progress)"),
    _route("GET HEAD", r"/gradio_api/file=(?!https?:).+"),
    _route("GET", rf"{_CALL}/\w+"),
    _route("GET", r"/login/(huggingface|callback)|/logout|/gradio_api/(user|login_check|token)/?"),
    # The page's own events, queued or not; a text to learn from comes along with some.
    _route("POST", r"/gradio_api/(queue/join|run/predict)", 64 * MB),
    _route("POST", r"/gradio_api/call/(v2/)?start_run/?", 64 * MB),
    # A prompt of 400,000 bytes, escaped.
    _route("POST", rf"{_CALL}/?", 4 * MB),
    _route("POST", r"/gradio_api/(cancel|reset)/?", 16 * KB),
    _route("POST", r"/gradio_api/upload", 22 * MB, files=True),
)
MAX_BYTES_IN_FLIGHT = 160 * MB  # in all bodies that are arriving
_SLOWEST = 64 * KB  # bytes per second; a slower body is refused
_GRACE_SECONDS = 20.0  # for every body
_DRAIN_SECONDS, _DRAIN_BYTES = 5.0, 64 * MB  # of a body that is refused
_POLICY = "frame-ancestors {}; base-uri 'self'; object-src 'none'"
FRAMES = ("'self'", "https://huggingface.co")  # the Hub shows a Space in a frame
# What a run writes, and whose it is, is for nobody's cache.
_PRIVATE = re.compile(r"/gradio_api/(queue|call|run|file=|upload|cancel|reset|heartbeat).*")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


class Refused(Exception):
    """Why a request is refused: a status and a message."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class FrontDoor:
    """ASGI middleware; see above."""

    def __init__(
        self,
        app: ASGIApp,
        routes: tuple[Route, ...] = ROUTES,
        hosts: frozenset[str] | None = None,
        frames: Sequence[str] = (),
    ) -> None:
        """`hosts` are the names under which this server may be called, ".name" for any below it;
        None: any. `frames` are sites that may show it in a frame, beside `FRAMES`."""
        self._app, self._routes, self._hosts = app, routes, hosts
        policy = _POLICY.format(" ".join([*FRAMES, *frames]))
        self._headers = ((b"content-security-policy", policy.encode()), *HEADERS)
        self._in_flight = 0
        self._uploads = UploadRoom()
        self._rate = RateLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, self._headers, path_of(scope))
        try:
            check_names(dict(scope["headers"]), self._hosts)
            route = find_route(self._routes, scope["method"], path_of(scope))
            if not await self._rate.admit(client_of_scope(scope), route.cost):
                raise Refused(429, "Too many requests at once. Wait a moment, then ask again.")
            limit = route.body
            if _announced(scope) > limit:
                raise _too_large(limit)
            if route.files:
                self._require_room(scope, limit)
            body = _Body(self, receive, limit)
            try:
                await self._app(scope, body.receive, answer.guarded(body))
            except ClientDisconnect:  # there is nobody to answer
                pass
            except Exception as error:
                if is_disk_full(error) and not answer.begun:
                    raise Refused(507, "The server's disk is full. Try again later.") from None
                if not (answer.begun and _is_told(error)):
                    raise
                await answer.end()
            finally:
                self._in_flight -= body.received
            if body.refusal:
                raise body.refusal
        except Refused as refused:
            await answer.refuse(refused, receive)

    def _require_room(self, scope: Scope, most: int) -> None:
        refused = self._uploads.refusal(client_of_scope(scope), _announced(scope) or most)
        if refused:
            raise Refused(*refused)

    def take(self, count: int) -> None:
        """Make room for that many more bytes. `Refused` if there is none."""
        self._in_flight += count
        if self._in_flight > MAX_BYTES_IN_FLIGHT:
            raise Refused(503, "The server is receiving too much at once. Try again in a moment.")


class _Body:
    """A request's body as it arrives: counted, timed, and charged to the room for all bodies."""

    def __init__(self, door: FrontDoor, receive: Receive, limit: int) -> None:
        self._door, self._receive, self._limit = door, receive, limit
        self._begun = time.monotonic()
        self._ended = False
        self.received = 0
        self.refusal: Refused | None = None

    async def receive(self) -> Message:
        if self.refusal:
            raise self.refusal
        try:
            message = await self._next()
            count = len(message.get("body", b""))
            self.received += count
            self._door.take(count)
            if self.received > self._limit:
                raise _too_large(self._limit)
        except Refused as refused:
            self.refusal = refused  # a handler may turn it into its own answer
            raise
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def _next(self) -> Message:
        if self._ended:  # only the end of the connection can follow
            return await self._receive()
        allowed = _GRACE_SECONDS + self.received / _SLOWEST
        left = self._begun + allowed - time.monotonic()
        try:
            return await asyncio.wait_for(self._receive(), max(left, 0.01))
        except asyncio.TimeoutError:
            raise Refused(408, "The request took too long to arrive.") from None


class _Answer:
    """The response: with our headers, and with nothing from gradio if a body was refused."""

    def __init__(self, send: Send, headers: Sequence[tuple[bytes, bytes]], path: str) -> None:
        self._send, self._headers = send, headers
        self._private = _PRIVATE.fullmatch(path) is not None
        self.begun = False

    def guarded(self, body: _Body) -> Send:
        async def send(message: Message) -> None:
            if body.refusal and not self.begun:
                return
            if message["type"] == "http.response.start":
                self.begun = True
                message = message | {"headers": self._with_own(message.get("headers", ()))}
            await self._send(message)

        return send

    def _with_own(self, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        if self._private:
            headers = [pair for pair in headers if pair[0].lower() != b"cache-control"]
            headers.append((b"cache-control", b"no-store"))
        return [*headers, *self._headers]

    async def end(self) -> None:
        """Of a stream that broke off."""
        await self._send({"type": "http.response.body", "body": b""})

    async def refuse(self, refused: Refused, receive: Receive) -> None:
        """Say why at once, then let the rest of the body run out: a line that is cut while the
        client still sends takes the answer with it."""
        if self.begun:
            return
        words = str(refused).encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(words)).encode()),
            (b"connection", b"close"),
        ]
        start = {"type": "http.response.start", "status": refused.status}
        await self._send(start | {"headers": [*headers, *self._headers]})
        await self._send({"type": "http.response.body", "body": words, "more_body": True})
        if refused.status in (413, 429, 507):
            await _drain(receive)
        await self.end()


async def _drain(receive: Receive) -> None:
    """Read the rest of a body and keep nothing of it."""
    left, end = _DRAIN_BYTES, time.monotonic() + _DRAIN_SECONDS
    while left > 0:
        try:
            message = await asyncio.wait_for(receive(), max(end - time.monotonic(), 0.01))
        except asyncio.TimeoutError:
            return
        left -= len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


def _is_told(error: BaseException | None) -> bool:
    """Whether gradio ended a stream by an answer that it has written into the stream already: of an
    event or a session that is not there (any more)."""
    while error is not None and not isinstance(error, HTTPException):
        error = error.__cause__ or error.__context__
    return error is not None


def find_route(routes: tuple[Route, ...], method: str, path: str) -> Route:
    """The first row that opens this path. `Refused` if none does."""
    rows = [route for route in routes if route.path.fullmatch(path)]
    for route in rows:
        if method in route.methods:
            return route
    raise Refused(405 if rows else 404, "That is not here.")


def check_names(headers: dict[bytes, bytes], hosts: frozenset[str] | None) -> None:
    """`Refused` for another site's page, and for a name that is not one of `hosts`."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if hosts is not None and not _is_named(name_of(host), hosts):
        raise Refused(403, "This server has a different name. Start it with --allow-host NAME.")
    origin = headers.get(b"origin")
    if origin is None:  # a program, or a page that only reads
        return
    site = origin.decode("latin-1").lower().partition("://")[2]
    forwarded = headers.get(b"x-forwarded-host", b"").decode("latin-1").lower()
    if site not in {host, forwarded.split(",")[0].strip()} - {""}:
        raise Refused(403, "Another site may not use this page.")


def _is_named(name: str, hosts: frozenset[str]) -> bool:
    return name in hosts or any(name.endswith(one) for one in hosts if one.startswith("."))


def name_of(host: str) -> str:
    """A Host header without its port: "localhost", "::1"."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host


def is_loopback(name: str) -> bool:
    """Whether a name or an address means this machine."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def trusted_hosts(
    listening: str, allowed: Sequence[str], share: bool = False
) -> frozenset[str] | None:
    """The names of a server that listens on `listening`: any, unless that is only this machine.
    With `share`, gradio's tunnel calls it by a name of its own."""
    if share:
        allowed = [*allowed, SHARE_HOST]
    if not is_loopback(listening):
        return None
    return frozenset({"localhost", "127.0.0.1", "::1", listening, *map(str.lower, allowed)})


def path_of(scope: Scope) -> str:
    """A request's path, below the root path of a proxy."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    return path[len(root) :] or "/" if root and path.startswith(root + "/") else path


def _announced(scope: Scope) -> int:
    """The body's length according to its header; 0 if there is none or it makes no sense."""
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() and len(value) < 20 else 0


def _too_large(limit: int) -> Refused:
    size = f"{limit / MB:g} MB" if limit >= MB else f"{limit / KB:g} kB"
    return Refused(413, f"The request is too large: at most {size} here.")
