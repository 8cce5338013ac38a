"""How many requests a second one client gets answered: a bucket of tokens for each.

Answering is work of the one thread that also hands out everybody's words. A client that asks 120
times a second, one request after the other, left the others a seventh of their tokens a second; at
40 a second they keep 70 %. So whoever is quicker waits, and nothing is refused that a patient
client would get; only a crowd of waiting requests is.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

PER_SECOND = 40.0
BURST = 200.0  # a page that is opened, and more
WAITING = 400  # requests of one client
_CLIENTS = 10_000


@dataclass
class _Bucket:
    seen: float  # when its client asked last
    left: float = BURST
    waiting: int = 0


class RateLimit:
    """Lets the requests of each client through, at most `PER_SECOND` after a burst."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    async def admit(self, client: str, cost: float = 1.0) -> bool:
        """Wait until the client has room for a request of that cost; False where too many of its
        requests wait already."""
        now = time.monotonic()
        bucket = self._bucket(client, now)
        if bucket.waiting >= WAITING:
            return False
        bucket.left = min(BURST, bucket.left + PER_SECOND * (now - bucket.seen)) - cost
        bucket.seen = now
        if bucket.left < 0:
            bucket.waiting += 1
            try:
                await asyncio.sleep(-bucket.left / PER_SECOND)
            finally:
                bucket.waiting -= 1
        return True

    def _bucket(self, client: str, now: float) -> _Bucket:
        bucket = self._buckets.setdefault(client, _Bucket(now))
        self._buckets.move_to_end(client)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return bucket
