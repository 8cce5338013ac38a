"""Room for what visitors upload: so much on the disk in all, so much from one client in a while."""

from __future__ import annotations

import time
from collections import OrderedDict, deque

from gpt2.temporary import temp_bytes

_MB = 1 << 20
TEMPORARY_BYTES = 4096 * _MB  # the whole temporary folder: uploads, downloads, what is published
CLIENT_BYTES = 200 * _MB  # a client's uploads
CLIENT_SECONDS = 600.0  # in this time
_LOOK_SECONDS = 1.0  # between two looks at the disk
_CLIENTS = 10_000


class UploadRoom:
    def __init__(self) -> None:
        self._taken, self._looked = 0, -_LOOK_SECONDS
        self._sent: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()  # of each client

    def refusal(self, client: str, size: int) -> tuple[int, str] | None:
        """A status and words if there is no room for an upload of so many bytes; else it is
        counted."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._taken, self._looked = temp_bytes(), time.monotonic()
        if self._taken + size > TEMPORARY_BYTES:
            return 507, "The server has no room for more files. Try again in an hour."
        if self._recent(client) + size > CLIENT_BYTES:
            minutes, most = CLIENT_SECONDS / 60, CLIENT_BYTES // _MB
            return 429, f"At most {most} MB may be uploaded in {minutes:.0f} minutes. Wait a while."
        self._taken += size
        self._sent.setdefault(client, deque()).append((time.monotonic(), size))
        self._sent.move_to_end(client)
        if len(self._sent) > _CLIENTS:
            self._sent.popitem(last=False)
        return None

    def _recent(self, client: str) -> int:
        sent = self._sent.get(client, deque())
        while sent and time.monotonic() - sent[0][0] > CLIENT_SECONDS:
            sent.popleft()
        return sum(size for _, size in sent)
