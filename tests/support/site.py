"""Speaking to the app as its page, its client library and plain programs do: over HTTP."""

from __future__ import annotations

import http.client
import json
import secrets
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

API = "/gradio_api"
_BOUNDARY = "a-boundary-of-the-tests"


@dataclass(frozen=True)
class Reply:
    """What came back, in all: a status, the text, how long it took. Status 0: the line was cut."""

    status: int
    text: str
    seconds: float = 0.0

    @property
    def value(self) -> object:
        return json.loads(self.text)


class Site:
    """One visitor's way to a server. Safe to use from one thread at a time."""

    def __init__(self, url: str, seconds: float = 30, address: str | None = None) -> None:
        """`address` is the visitor's own; only Linux has more than one of this machine."""
        self.url, self._seconds = url, seconds
        own = address is not None and sys.platform == "linux"
        self._from = (address, 0) if own else None
        self._host = urlsplit(url).netloc

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request; a body that is not bytes is sent as JSON."""
        begun = time.monotonic()
        kind = {} if body is None else {"Content-Type": "application/json"}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self._host, None, self._seconds, self._from)
        try:
            connection.putrequest(method, path, skip_host="Host" in (headers or {}))
            length = {} if data is None else {"Content-Length": str(len(data))}
            for name, value in (length | kind | (headers or {})).items():
                connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            return Reply(answer.status, text, time.monotonic() - begun)
        except (OSError, http.client.HTTPException) as error:
            return Reply(0, type(error).__name__, time.monotonic() - begun)
        finally:
            connection.close()

    def raw(self, sent: bytes) -> Reply:
        """Bytes that need not be HTTP."""
        import socket

        begun = time.monotonic()
        name, _, port = self._host.rpartition(":")
        received = b""
        with socket.create_connection((name, int(port)), timeout=self._seconds) as line:
            try:
                line.sendall(sent)
                line.shutdown(socket.SHUT_WR)
                while part := line.recv(65536):
                    received += part
            except OSError:
                pass
        status = received[9:12]
        found = int(status) if status.isdigit() else 0
        return Reply(found, received.decode(errors="replace"), time.monotonic() - begun)

    def call(self, endpoint: str, data: object) -> Reply:
        """An endpoint by plain HTTP: two requests, the answer of the second."""
        begun = time.monotonic()
        path = f"{API}/call/{endpoint}"
        asked = self.ask("POST", path, {"data": data})
        if asked.status != 200:
            return asked
        answer = self.ask("GET", f"{path}/{asked.value['event_id']}")
        return Reply(answer.status, answer.text, time.monotonic() - begun)

    def event(
        self, function: dict, data: object, session: str = "", headers: dict | None = None
    ) -> Reply:
        """An event of the page: a row of `dependencies`, its inputs."""
        session = session or new_session()
        body = {"fn_index": function["id"], "data": data, "session_hash": session}
        if not function["queue"]:
            return self.ask("POST", f"{API}/run/predict", body, headers)
        begun = time.monotonic()
        asked = self.ask("POST", f"{API}/queue/join", body, headers)
        if asked.status != 200:
            return asked
        text = self.listen(session)
        return Reply(200, text, time.monotonic() - begun)

    def listen(self, session: str, until: str = '"process_completed"', most: int = 10_000) -> str:
        """What the queue tells a session, until a line has those words, or for so many lines."""
        connection = http.client.HTTPConnection(self._host, None, self._seconds, self._from)
        told = []
        try:
            connection.request("GET", f"{API}/queue/data?session_hash={session}")
            answer = connection.getresponse()
            while len(told) < most and (line := answer.readline()):
                told.append(line.decode(errors="replace"))
                if until in told[-1]:
                    break
        except OSError as error:
            told.append(type(error).__name__)
        finally:
            connection.close()
        return "".join(told)

    def upload(self, *files: tuple[str, bytes]) -> Reply:
        """Files by the page's way; the answer is a list of paths."""
        body = b"".join(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n".encode("utf-8", "surrogateescape")
            + content
            + b"\r\n"
            for name, content in files
        )
        kind = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        return self.ask("POST", f"{API}/upload", body + f"--{_BOUNDARY}--\r\n".encode(), kind)

    def functions(self) -> list[dict]:
        """All functions of the page; some run in the browser alone (`backend_fn`)."""
        return self.ask("GET", "/config").value["dependencies"]

    def defaults(self) -> dict[int, object]:
        """The value that each component of the page begins with, by number."""
        parts = self.ask("GET", "/config").value["components"]
        return {part["id"]: part["props"].get("value") for part in parts}


def function_named(functions: list[dict], name: str) -> dict:
    return next(row for row in functions if row["api_name"] == name)


def new_session() -> str:
    return secrets.token_hex(6)
