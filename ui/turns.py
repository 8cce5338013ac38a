"""Whose turn it is on the page: no client keeps the others waiting for long.

Two kinds of handlers, two ways:

- Those that take long (generation, plans, runs, downloads) wait in gradio's queue, in one lane for
  each kind. There, clients take turns, and within a client its sessions do; a client may have so
  many places in a lane, and a lane so many in all.
- Those that are over at once run without the queue, as many at a time as leave room for the event
  loop, and only some of them for one client.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
import gradio.queueing
from gradio.queueing import Event, EventQueue

from ui.client import client_of, streams_of

LANE_PLACES = 40  # waiting events of one kind
CLIENT_PLACES = 20  # of them, for one client: a class behind one router is one
LIGHT_AT_ONCE = 4  # handlers without the queue
LIGHT_FOR_CLIENT = 2
LIGHT_WAITING = 40  # for one client; a page sends a few
UNREAD_SESSIONS = 300  # whose answers are kept although nobody fetches them
UNREAD_SECONDS = 300.0
_REMEMBERED = 4096  # clients and sessions whose last turn is known


class FairQueue(gradio.queueing.Queue):
    """Gradio's queue, in which clients take turns."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.ANALYTICS_MAX_EVENTS = 1
        self._turns = LastTurns()
        self._asked: OrderedDict[str, float] = OrderedDict()  # sessions, and when they last did

    def compute_analytics_summary(self, records: object) -> dict:
        """Nothing: gradio counts the last 10,000 events anew after each, for a page of its own that
        is not open here."""
        return {}

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        fn = self.blocks.fns.get(body.fn_index)
        lane = self.event_queue_per_concurrency_id.get(fn.concurrency_id) if fn else None
        if lane and (words := refusal(lane, client_of(request))):
            return False, words, "queue_full"
        answer = await super().push(body, request, username)
        if body.session_hash:
            self._asked[body.session_hash] = time.monotonic()
            self._asked.move_to_end(body.session_hash)
        self._forget_unread()
        return answer

    def get_events(self) -> Any:
        """Whoever's turn it is, in any lane that has room. Called with the lock of all lanes held;
        no handler here takes several events at once."""
        lanes = list(self.event_queue_per_concurrency_id.values())
        random.shuffle(lanes)
        for lane in lanes:
            if event := self._following(lane):
                lane.queue.remove(event)
                self._turns.take(*_who(event))
                return [event], False, lane.concurrency_id
        return None

    def _following(self, lane: EventQueue) -> Event | None:
        """Half of a lane, at least one place, is the most for one client."""
        limit = lane.concurrency_limit or LANE_PLACES
        if not lane.queue or lane.current_concurrency >= limit:
            return None
        running = Counter(
            client_of(event.request)
            for job in self.active_jobs
            for event in job or ()
            if event.concurrency_id == lane.concurrency_id
        )
        most = max(1, limit // 2)
        waiting = [event for event in lane.queue if running[client_of(event.request)] < most]
        return min(waiting, key=lambda event: self._turns.order(*_who(event)), default=None)

    async def reset_iterators(self, event_id: str) -> None:
        """Called at every end of an event: finished, failed, cancelled or left."""
        if event := self.event_ids_to_events.get(event_id):
            _end_streams(event)
        await super().reset_iterators(event_id)

    async def clean_events(
        self, *, session_hash: str | None = None, event_id: str | None = None
    ) -> None:
        """Called when a reader has left."""
        for job in self.active_jobs:
            for event in job or ():
                if event.session_hash == session_hash or event._id == event_id:
                    _end_streams(event)
        await super().clean_events(session_hash=session_hash, event_id=event_id)

    def _forget_unread(self) -> None:
        """Drop the answers to sessions that nobody fetches: all their events have ended."""
        old = time.monotonic() - UNREAD_SECONDS
        for session, asked in list(self._asked.items()):
            if len(self._asked) <= UNREAD_SESSIONS and asked > old:
                return
            events = self.pending_event_ids_session.get(session, ())
            if any(event in self.event_ids_to_events for event in events):
                continue
            del self._asked[session]
            self.pending_event_ids_session.pop(session, None)
            self.pending_messages_per_session.pop(session, None)


def refusal(lane: EventQueue, client: str) -> str:
    """Why one more event of a client cannot wait in a lane; "" if it can."""
    waiting = len(lane.queue)
    if waiting >= LANE_PLACES:
        return f"The server is busy: {waiting} are waiting already. Try again in a moment."
    own = sum(client_of(event.request) == client for event in lane.queue)
    if own >= CLIENT_PLACES:
        return f"{own} requests from your address are waiting already. Try again in a moment."
    return ""


class LastTurns:
    """When clients, and their sessions, last had a turn: who waited longest comes next."""

    def __init__(self) -> None:
        self._last: OrderedDict[Hashable, int] = OrderedDict()
        self._count = 0

    def order(self, client: str, session: str) -> tuple[int, int]:
        return self._last.get(client, 0), self._last.get((client, session), 0)

    def take(self, client: str, session: str) -> None:
        self._count += 1
        for who in (client, (client, session)):
            self._last[who] = self._count
            self._last.move_to_end(who)
        while len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)


class LightHandlers:
    """Room for handlers without the queue."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(LIGHT_AT_ONCE)
        self._clients: dict[str, asyncio.Semaphore] = {}
        self._waiting: dict[str, int] = {}

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """Wait for room. `gr.Error` if the client has enough waiting already."""
        if self._waiting.get(client, 0) >= LIGHT_WAITING:
            raise gr.Error("Too much at once. Try again in a moment.", print_exception=False)
        self._waiting[client] = self._waiting.get(client, 0) + 1
        own = self._clients.setdefault(client, asyncio.Semaphore(LIGHT_FOR_CLIENT))
        try:
            async with own, self._all:
                yield
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client], self._clients[client]


def _end_streams(event: Event) -> None:
    """At once, although their handler may be in the middle of a step; its generator is only closed
    when nothing holds it any more."""
    for stream in streams_of(event.request):
        stream.cancel()


def _who(event: Event) -> tuple[str, str]:
    return client_of(event.request), event.session_hash
