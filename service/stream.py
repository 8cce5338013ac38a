"""A request's way back: the engine writes pieces into a `Mailbox`, one reader takes them out.

The reader holds a `Stream`, in a thread or in asyncio; the engine holds only the mailbox. So a
reader who closes the stream, or just drops it, is seen to have left.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable

from gpt2.generate import Piece


class Mailbox:
    """What was written and not yet taken. Both sides may use it from any thread."""

    def __init__(self) -> None:
        self.left = False  # the reader wants no more; a plain flag, as it is set while collecting
        self._full_since: float | None = None
        self._lock = threading.Lock()
        self._pieces: deque[Piece] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._waker: Callable[[], None] | None = None
        self._only_end = False  # wake at the end, and not at every piece

    def __len__(self) -> int:
        return len(self._pieces)

    def put(self, piece: Piece) -> None:
        with self._lock:
            self._pieces.append(piece)
            if not self._only_end:
                self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing follows. The reader gets the pieces, then the error, if there is one."""
        with self._lock:
            self._ended, self._error = True, error
            self._wake()

    def _wake(self) -> None:
        if self._waker:
            self._waker()
        self._waker = None

    def watch(self, waker: Callable[[], None], only_end: bool = False) -> bool:
        """Have `waker` called once, from another thread, when there is a piece or the end; False if
        that is so already."""
        with self._lock:
            if self._ended or (self._pieces and not only_end):
                return False
            self._waker, self._only_end = waker, only_end
            return True

    def take(self) -> list[Piece]:
        with self._lock:
            pieces = list(self._pieces)
            self._pieces.clear()
            if not pieces and self._error:
                raise self._error
            return pieces

    @property
    def ended(self) -> bool:
        return self._ended

    def leave(self) -> None:
        """The reader wants no more, and waits for nothing."""
        self.left = True
        with self._lock:
            self._wake()

    def is_stalled(self, unread: int, seconds: float) -> bool:
        """Whether to write no more for now, as `unread` pieces lie there. A reader who has taken
        none of them for so many seconds is taken for gone."""
        if len(self) < unread:
            self._full_since = None
            return False
        now = time.monotonic()
        self._full_since = self._full_since or now
        self.left |= now - self._full_since > seconds
        return True


class Stream:
    """The pieces of one request, as they are written. An iterator, also an asynchronous one; it
    raises what ended the request early. Closing it, or dropping it, ends the request."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._taken: deque[Piece] = deque()

    def take(self, pause: float = 0.0) -> list[Piece]:
        """All pieces since the last call, at least one: what `pause` seconds bring, or less at the
        end. An empty list says that all have been taken. Nothing wakes the caller in between."""
        if pause and not self._mailbox.left:
            self._sleep(pause, only_end=True)
        while not (pieces := self._next_pieces()) and self._is_open:
            self._sleep(None)
        return pieces

    def _sleep(self, seconds: float | None, only_end: bool = False) -> None:
        awake = threading.Event()
        if self._mailbox.watch(awake.set, only_end):
            awake.wait(seconds)

    def _next_pieces(self) -> list[Piece]:
        return [] if self._mailbox.left else self._mailbox.take()

    @property
    def _is_open(self) -> bool:
        return not self._mailbox.left and (not self._mailbox.ended or len(self._mailbox) > 0)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece:
        if not self._taken:
            self._taken.extend(self.take())
        if not self._taken:
            raise StopIteration
        return self._taken.popleft()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Piece:
        while not self._taken:
            self._taken.extend(self._next_pieces())
            if not self._taken:
                if not self._is_open:
                    raise StopAsyncIteration
                await self._wait()
        return self._taken.popleft()

    async def _wait(self) -> None:
        loop, awake = asyncio.get_running_loop(), asyncio.Event()
        if self._mailbox.watch(lambda: loop.call_soon_threadsafe(awake.set)):
            await awake.wait()

    def cancel(self) -> None:
        """End the request; nothing follows. Safe to call at any time, from any thread."""
        self._mailbox.leave()
        self._taken.clear()

    close = cancel

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *raised: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        self._mailbox.left = True  # without a lock, which the collecting thread may hold
