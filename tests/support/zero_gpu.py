"""ZeroGPU without a GPU: the real package `spaces` against a stand-in for the service behind it.

The package really forks its worker, pickles what goes in and out, runs generators and raises its
errors; only CUDA is missing. `start` is called before PyTorch is imported, so in a process of its
own.
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
from typing import ClassVar

REFUSALS = {
    "quota": ("quota-exceeded", {"left": 3, "wait": 3600}),
    "illegal": ("illegal-duration", {"left": 3, "wait": -1}),
}


class Service(http.server.BaseHTTPRequestHandler):
    """Its answers to /schedule are those in `answers`, one after the other; then it grants."""

    answers: ClassVar[list[str]] = []
    calls: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.calls.append(self.path)
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.startswith("/schedule"):
            self._schedule(self.answers.pop(0) if self.answers else "grant")
        else:
            self._answer(200, {}, {})

    def _schedule(self, how: str) -> None:
        if how in REFUSALS:
            reason, body = REFUSALS[how]
            headers = {"X-Approve-Result": reason, "X-Authenticated": "regular"}
            self._answer(429, body, headers)
        else:
            granted = {"idle": how == "idle", "nvidiaIndex": 0, "nvidiaUUID": "GPU-x"}
            self._answer(200, granted | {"allowToken": "t"}, {})

    def _answer(self, status: int, value: dict, headers: dict[str, str]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        fixed = {"content-type": "application/json", "content-length": str(len(body))}
        for name, text in (fixed | headers).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


def start() -> type[Service]:
    """Start the service and import `spaces` against it."""
    assert "torch" not in sys.modules
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["SPACES_ZERO_DEVICE_API_URL"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["SPACES_ZERO_GPU"] = "true"
    os.environ["SPACE_ID"] = "somebody/something"
    sys.modules["torch"] = None  # the package's emulation of CUDA stays out
    import spaces  # noqa: F401

    del sys.modules["torch"]
    return Service
