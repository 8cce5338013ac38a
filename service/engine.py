"""Many requests of one model, written together: each stream is what the request gives alone.

    engine = Engine(model, tokenizer)
    for piece in engine.submit("Once upon a time", Sampling(seed=7)):   # or: async for
        print(piece.text, end="")

One thread computes. In every round it lets requests in while there is room, reads at most a chunk
of prompts, and decodes one token of every text that has been read. So requests join and leave
between any two tokens, and a long prompt delays the others by one chunk at a time.

Texts. The same prompt, settings and seed give the same text, bit for bit, whatever else is asked at
the same time; and it is the text of `gpt2.generate.generate_pieces`. `gpt2.decode` says why, and
what it costs on a machine where rows are not independent.

Fairness. Visitors take turns at being let in and at reading, not requests; one visitor can have at
most half of the rows. A request without a visitor is a visitor of its own. What was read of a
prompt is found again only by requests of the same session.

Bounds. Rows and the bytes of their caches; beyond, requests wait, and beyond that `submit` raises a
`UserError` that says how many wait. Who does not take what was written is written for no further,
and after a while given up. A reader who leaves is noticed before the next token.

Failures. What goes wrong in a request is raised to its reader alone.
"""

from __future__ import annotations

import atexit
import itertools
import threading
import weakref
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

import torch

from gpt2.batch import BatchRow, capacity_of, read_row, step_rows
from gpt2.decode import chunk_of, rows_at_once
from gpt2.errors import UserError
from gpt2.generate import SampleText, read_prompt, texts_of
from gpt2.model import GPT2
from gpt2.sampling import Sampling
from gpt2.tokenizer import Tokenizer
from service.prefixes import Prefixes
from service.stream import Mailbox, Stream
from service.waiting import Turns

# Below this many parameters one thread is nearly as fast as all, and much faster where other
# processes compute too: two threads of the storyteller wait for each other 10 times as long.
_MANY_THREADS = 20e6
_THREADS = torch.get_num_threads()
_ENGINES: weakref.WeakSet[Engine] = weakref.WeakSet()
STOPPING = "The server is stopping. Try again in a moment."


@dataclass(frozen=True)
class EngineLimits:
    rows: int = 32  # texts that are written at the same time
    rows_per_visitor: int = 16
    waiting: int = 64  # requests
    waiting_per_visitor: int = 16
    cache_bytes: int = 1 << 30  # keys and values of all rows; a single request may have more
    prefix_bytes: int = 1 << 26  # of prompts, kept for their visitors
    unread_pieces: int = 1000  # of a request, before it pauses
    unread_seconds: float = 60.0  # before it ends
    idle_seconds: float = 5.0  # before the thread ends


class _Nobody:
    """The visitor of a single request."""


@dataclass(eq=False)
class _Request:
    visitor: Hashable
    prompts: Hashable  # whose prompts may be found again; None: nobody's
    tokens: list[int]
    openings: list[int] | None
    sampling: Sampling
    texts: list[SampleText]
    bytes: int
    mailbox: Mailbox = field(default_factory=Mailbox)
    rows: dict[int, BatchRow] = field(default_factory=dict)  # by sample; those being written
    is_read: bool = False  # so that its samples have been forked


class Engine:
    """One model's batch. Safe to use from any thread. It costs a thread only while it works."""

    def __init__(
        self, model: GPT2, tokenizer: Tokenizer, limits: EngineLimits = EngineLimits()
    ) -> None:
        self._model, self._tokenizer, self._limits = model, tokenizer, limits
        self._at_once = rows_at_once(model)
        self._prefixes = Prefixes(chunk_of(model), limits.prefix_bytes)
        self._changed = threading.Condition()  # held for all below
        self._waiting: Turns[_Request] = Turns()
        self._active: list[_Request] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._last_read: dict[Hashable, int] = {}  # when a visitor's prompt was read, by turns
        self._turn = itertools.count(1)
        _ENGINES.add(self)

    def submit(
        self,
        prompt: str,
        sampling: Sampling,
        visitor: Hashable | None = None,
        prompts: Hashable | None = None,
    ) -> Stream:
        """The pieces that `generate_pieces` yields. `UserError` for an unusable prompt, and if too
        many requests wait. `visitor`, any hashable value, is who shares turns: an address.
        `prompts` is who may find what was read of a prompt again: a session. None of each: only
        this request."""
        request = self._make_request(prompt, sampling, visitor or _Nobody(), prompts)
        with self._changed:
            self._refuse_if_busy(request)
            self._waiting.add(request.visitor, request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
                self._thread.start()
            self._changed.notify()
        return Stream(request.mailbox)

    def close(self) -> None:
        """End all requests; the engine takes no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread:
            thread.join()

    @property
    def rows_in_use(self) -> int:
        """Rows of requests that have been let in."""
        return sum(request.sampling.samples for request in self._active)

    @property
    def cache_bytes(self) -> int:
        return sum(request.bytes for request in self._active)

    @property
    def waiting(self) -> int:
        """Requests that have not been let in."""
        with self._changed:
            return self._waiting.count()

    @property
    def is_working(self) -> bool:
        return self._thread is not None

    def _make_request(
        self, prompt: str, sampling: Sampling, visitor: Hashable, prompts: Hashable | None
    ) -> _Request:
        most = min(self._limits.rows, self._limits.rows_per_visitor)
        if sampling.samples > most:
            raise UserError(f"At most {most} samples at once here.")
        tokens, openings = read_prompt(self._tokenizer, prompt)
        config, like = self._model.config, self._model.new_cache(1, 1).slab
        capacity = capacity_of(self._model, len(tokens), sampling)
        return _Request(
            visitor,
            prompts,
            tokens[-config.n_positions :],
            openings,
            sampling,
            texts_of(self._tokenizer, sampling, openings),
            bytes=like.nbytes * capacity * sampling.samples,
        )

    def _refuse_if_busy(self, request: _Request) -> None:
        limits, before = self._limits, self._waiting.count()
        if self._closed:
            raise UserError(STOPPING)
        if before >= limits.waiting:
            raise UserError(f"Busy: {before} requests are before yours. Try again in a moment.")
        own = self._waiting.count(request.visitor)
        if own >= limits.waiting_per_visitor:
            raise UserError(f"Busy: {own} requests of your own are before this one. Let them end.")

    # The rest runs in the engine's thread.

    @torch.inference_mode()
    def _work(self) -> None:
        torch.set_num_threads(threads_for(self._model))
        while self._begin_round():
            try:
                self._read_prompts()
                self._step()
            except Exception as error:  # of no single request
                for request in list(self._active):
                    self._end(request, error)

    def _begin_round(self) -> bool:
        """Let requests in and drop those whose reader has left, or wait for the next; False if
        none came for a while, and the thread is to end."""
        with self._changed:
            self._drop_left()
            self._let_in()
            if not self._active and not self._closed:
                self._last_read.clear()
                self._changed.wait_for(self._has_work, self._limits.idle_seconds)
                self._let_in()
            if self._closed:
                self._end_all(UserError(STOPPING))
            if not self._active:
                self._thread = None
                return False
            if all(map(self._is_stalled, self._active)):
                self._changed.wait(0.05)
            return True

    def _has_work(self) -> bool:
        return self._closed or self._waiting.count() > 0

    def _drop_left(self) -> None:
        for request in self._waiting.remove(lambda request: request.mailbox.left):
            request.mailbox.end()
        for request in [one for one in self._active if one.mailbox.left]:
            self._end(request)

    def _let_in(self) -> None:
        while request := self._next_fitting():
            self._waiting.pop(request.visitor)
            self._active.append(request)

    def _next_fitting(self) -> _Request | None:
        """Whose turn it is, if there is room. A large one that has to wait is not overtaken."""
        limits = self._limits
        for visitor, request in self._waiting.heads():
            samples = request.sampling.samples
            own = sum(one.sampling.samples for one in self._active if one.visitor == visitor)
            if own + samples > limits.rows_per_visitor:
                continue
            fits = self.rows_in_use + samples <= limits.rows
            fits &= self.cache_bytes + request.bytes <= limits.cache_bytes
            return request if fits or not self._active else None
        return None

    def _is_stalled(self, request: _Request) -> bool:
        limits = self._limits
        return request.mailbox.is_stalled(limits.unread_pieces, limits.unread_seconds)

    def _working(self) -> Iterator[_Request]:
        return (one for one in list(self._active) if not self._is_stalled(one))

    def _read_prompts(self) -> None:
        """As many tokens as a chunk has, of those visitors who have waited longest for it."""
        chunk = left = chunk_of(self._model)
        for request in sorted(self._working(), key=lambda one: self._last_read.get(one.visitor, 0)):
            for row in self._rows_to_read(request):
                if left < min(chunk, row.missing):
                    return
                self._last_read[request.visitor] = next(self._turn)
                left -= self._read(request, row)

    def _rows_to_read(self, request: _Request) -> list[BatchRow]:
        if not request.is_read and not request.rows and not self._attempt(self._start, request):
            return []
        return [row for row in request.rows.values() if not row.is_ready]

    def _read(self, request: _Request, row: BatchRow) -> int:
        read = self._attempt(lambda one: read_row(self._model, row), request) or 0
        if row.is_ready and not request.is_read:
            self._attempt(self._fork, request)
        return read

    def _start(self, request: _Request) -> bool:
        row = BatchRow(self._model, request.tokens, request.sampling, request.openings)
        request.rows[0] = row
        if request.prompts is not None:
            self._prefixes.restore(request.prompts, request.tokens, row.cache)
        if row.is_ready:
            self._fork(request)
        return True

    def _fork(self, request: _Request) -> None:
        """The prompt has been read: what follows is each sample's own."""
        first = request.rows[0]
        if request.prompts is not None:
            self._prefixes.keep(request.prompts, request.tokens, first.cache)
        request.rows |= {i: first.fork(i) for i in range(1, request.sampling.samples)}
        request.is_read = True

    def _attempt(self, work, request: _Request):
        """The result of work for one request, which alone ends if it fails."""
        try:
            return work(request)
        except Exception as error:
            self._end(request, error)
            return None

    def _step(self) -> None:
        ready = [
            (request, index)
            for request in self._working()
            if request.is_read
            for index, row in request.rows.items()
            if row.is_ready
        ]
        for request, index, token in self._draw(ready):
            self._attempt(lambda one, i=index, t=token: self._write(one, i, t), request)

    def _draw(self, ready: list[tuple[_Request, int]]) -> list[tuple[_Request, int, int]]:
        """A token for each row. If that fails, each is tried alone, to find the one to blame."""
        rows = [request.rows[index] for request, index in ready]
        if not rows:
            return []
        try:
            tokens = step_rows(self._model, rows, self._at_once, self._tokenizer.vocab_size)
        except Exception as error:
            if len(ready) == 1:
                self._end(ready[0][0], error)
                return []
            return [drawn for one in ready if one[0] in self._active for drawn in self._draw([one])]
        return [(*one, token) for one, token in zip(ready, tokens)]

    def _write(self, request: _Request, sample: int, token: int) -> None:
        piece = request.texts[sample].add(token)
        request.mailbox.put(piece)
        if piece.stop_reason:
            del request.rows[sample]
            if not request.rows:
                self._end(request)

    def _end(self, request: _Request, error: BaseException | None = None) -> None:
        """It leaves, and its rows and bytes with it."""
        if request in self._active:
            self._active.remove(request)
        request.rows.clear()
        request.mailbox.end(error)

    def _end_all(self, error: UserError) -> None:
        for request in [*self._active, *self._waiting.remove(lambda one: True)]:
            self._end(request, error)


@atexit.register
def close_engines() -> None:
    """A thread that still computes while Python ends would abort the process."""
    for engine in list(_ENGINES):
        engine.close()


def threads_for(model: GPT2) -> int:
    """How many threads compute. In bfloat16 the number may change bits of long prompts, so there it
    is always the same."""
    small = model.parameter_count() < _MANY_THREADS and model.wte.weight.dtype == torch.float32
    return 1 if small and model.device.type == "cpu" else _THREADS
