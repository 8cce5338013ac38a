"""Who is next: one turn for each visitor who waits, however many requests they have."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Turns(Generic[T]):
    """Requests by visitor, in the order of the visitors' turns. Not safe for several threads."""

    _visitors: OrderedDict[Hashable, deque[T]] = field(default_factory=OrderedDict)

    def add(self, visitor: Hashable, request: T) -> None:
        self._visitors.setdefault(visitor, deque()).append(request)

    def count(self, visitor: Hashable | None = None) -> int:
        """How many wait: of all, or of one visitor."""
        if visitor is not None:
            return len(self._visitors.get(visitor, ()))
        return sum(map(len, self._visitors.values()))

    def heads(self) -> Iterator[tuple[Hashable, T]]:
        """Each visitor's first request, in turn."""
        for visitor, requests in list(self._visitors.items()):
            yield visitor, requests[0]

    def pop(self, visitor: Hashable) -> T:
        """The visitor's first request; it is then the others' turn."""
        requests = self._visitors.pop(visitor)
        request = requests.popleft()
        if requests:
            self._visitors[visitor] = requests
        return request

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Take out all requests of which that is true."""
        gone: list[T] = []
        for visitor, requests in list(self._visitors.items()):
            gone += (request for request in requests if unwanted(request))
            kept = deque(request for request in requests if not unwanted(request))
            self._visitors[visitor] = kept
            if not kept:
                del self._visitors[visitor]
        return gone
