"""The engine: each text is the one made alone, whoever else is there, comes or leaves."""

from __future__ import annotations

import asyncio
import gc
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpt2.errors import UserError
from gpt2.generate import Piece, generate_pieces
from gpt2.prepack import prepack
from gpt2.sampling import Sampling
from service import engine as module
from service.engine import Engine, EngineLimits
from tests.support.event_loop import run_async

ROOT = Path(__file__).resolve().parents[2]
LIMITS = EngineLimits(idle_seconds=0.05)
LONG = Sampling(max_new_tokens=5000, stop_at_end_of_text=False)


@pytest.fixture(scope="module")
def model(make_model):
    return prepack(make_model(seed=6, n_positions=160, n_embd=32, n_head=2))


@pytest.fixture
def start(model, characters) -> Iterator[Callable[..., Engine]]:
    """start(**limits): an engine. At the end, all it took must have come back."""
    engines = []

    def start_engine(**limits: object) -> Engine:
        engines.append(Engine(model, characters, replace(LIMITS, **limits)))
        return engines[-1]

    yield start_engine
    for engine in engines:
        wait_until(lambda one=engine: not one.is_working)
        assert (engine.rows_in_use, engine.cache_bytes, engine.waiting) == (0, 0, 0)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def text_of(pieces) -> str:
    return "".join(piece.text for piece in pieces if piece.sample == 0)


def some_request(choose: random.Random) -> tuple[str, Sampling]:
    letters = "".join(map(chr, range(0x20, 0x7F)))
    prompt = "".join(choose.choices(letters, k=choose.choice([0, 1, 9, 60, 200, 400])))
    sampling = Sampling(
        max_new_tokens=choose.choice([1, 5, 20, 40]),
        temperature=choose.choice([0, 0.8, 0.8, 1.3]),
        top_k=choose.choice([0, 40, 40, 5]),
        top_p=choose.choice([1, 0.95, 0.5]),
        min_p=choose.choice([0, 0, 0.05]),
        repetition_penalty=choose.choice([1, 1.1]),
        seed=choose.randrange(1 << 40),
        samples=choose.choice([1, 1, 1, 3]),
        stop=choose.choice(["", "e", "ab"]),
    )
    return prompt + choose.choice(["", " "]), sampling


def test_300_requests_at_random_times_a_third_abandoned(start, model, characters):
    """What a visitor reads is what they would read alone, down to the pieces."""
    engine = start(waiting=300, waiting_per_visitor=300, prefix_bytes=100_000)
    choose = random.Random(1)
    requests = [some_request(choose) for _ in range(300)]
    abandoned = set(choose.sample(range(300), 100))
    read: dict[int, list[Piece]] = {}

    def visit(index: int, pause: float, patience: int) -> None:
        time.sleep(pause)
        prompt, sampling = requests[index]
        pieces = []
        for piece in engine.submit(prompt, sampling, visitor=index % 20):
            pieces.append(piece)
            if index in abandoned and len(pieces) > patience:
                return  # and the stream is collected
        read[index] = pieces

    visits = [
        threading.Thread(target=visit, args=(i, choose.random() * 2, choose.randrange(8)))
        for i in range(300)
    ]
    for visit_ in visits:
        visit_.start()
    for visit_ in visits:
        visit_.join()
    assert read.keys() >= set(range(300)) - abandoned
    for index, pieces in read.items():
        key = lambda piece: (piece.sample, piece.tokens)  # noqa: E731
        alone = generate_pieces(model, characters, *requests[index])
        assert sorted(pieces, key=key) == sorted(alone, key=key), requests[index]


def test_the_pieces_come_in_the_order_of_the_generator(start, model, characters):
    how = Sampling(samples=4, max_new_tokens=30, stop="e", seed=3)
    together = list(start().submit("Once", how))
    alone = list(generate_pieces(model, characters, "Once", how))
    assert together == alone


def test_asyncio(start, model, characters):
    engine = start()

    async def read(seed: int) -> str:
        stream = engine.submit("Once", Sampling(seed=seed))
        return text_of([piece async for piece in stream])

    async def read_all() -> list[str]:
        return await asyncio.gather(*map(read, range(12)))

    for seed, text in enumerate(run_async(read_all())):
        assert text == text_of(generate_pieces(model, characters, "Once", Sampling(seed=seed)))


def test_a_cancelled_task_ends_its_request(start):
    engine = start()

    async def read() -> None:
        async for _ in engine.submit("Once", LONG):
            pass

    async def leave() -> None:
        task = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_async(leave())
    gc.collect()
    wait_until(lambda: not engine.rows_in_use)


@pytest.fixture
def steps(monkeypatch) -> list[int]:
    """How many rows each step had, of all engines of this test."""
    seen: list[int] = []
    real = module.step_rows

    def counted(model, rows, *rest):
        seen.append(len(rows))
        return real(model, rows, *rest)

    monkeypatch.setattr(module, "step_rows", counted)
    return seen


@pytest.mark.parametrize("leave", ["cancel", "close", "drop", "with"])
def test_work_ends_within_two_tokens_of_the_readers_leaving(leave, start, steps):
    engine = start()
    stream = engine.submit("Once", LONG)
    next(stream)
    if leave == "drop":
        del stream
        gc.collect()
    elif leave == "with":
        with stream:
            pass
    else:
        getattr(stream, leave)()
    done = len(steps)
    wait_until(lambda: not engine.is_working)
    assert len(steps) <= done + 2
    if leave != "drop":
        assert list(stream) == []


def test_a_waiting_request_may_leave_too(start):
    engine = start(rows=1)
    with engine.submit("Once", LONG), engine.submit("Once", LONG):
        wait_until(lambda: engine.waiting == 1)
    wait_until(lambda: not engine.waiting)


def test_a_crash_ends_its_request_and_no_other(start, model, characters, monkeypatch):
    """In reading, in drawing and in making text of a token."""
    real_read, real_step = module.read_row, module.step_rows

    def read_row(model, row):
        if row.draw.sampling.seed == 1:
            raise RuntimeError("reading")
        return real_read(model, row)

    def step_rows(model, rows, *rest):
        if any(row.draw.sampling.seed == 2 and len(row.context) > 10 for row in rows):
            raise RuntimeError("drawing")
        return real_step(model, rows, *rest)

    monkeypatch.setattr(module, "read_row", read_row)
    monkeypatch.setattr(module, "step_rows", step_rows)
    engine = start()
    streams = [engine.submit("Once", Sampling(seed=seed)) for seed in range(6)]
    expected = {1: "reading", 2: "drawing"}
    for seed, stream in enumerate(streams):
        if seed in expected:
            with pytest.raises(RuntimeError, match=expected[seed]):
                list(stream)
        else:
            alone = generate_pieces(model, characters, "Once", Sampling(seed=seed))
            assert list(stream) == list(alone)


def test_closing_ends_all_requests_in_words(start):
    engine = start()
    streams = [engine.submit("Once", Sampling(seed=seed)) for seed in range(3)]
    engine.close()
    for stream in streams:
        with pytest.raises(UserError, match="stopping"):
            list(stream)
    with pytest.raises(UserError, match="stopping"):
        engine.submit("Once", Sampling())


def test_beyond_the_room_it_says_how_many_are_before(start):
    engine = start(rows=2, waiting=3)
    streams = [engine.submit("Once", LONG) for _ in range(2)]
    wait_until(lambda: engine.rows_in_use == 2)
    streams += [engine.submit("Once", LONG) for _ in range(3)]
    with pytest.raises(UserError, match="Busy: 3 requests are before yours"):
        engine.submit("Once", LONG)
    for stream in streams:
        stream.cancel()


def test_one_visitor_cannot_take_all_rows_or_the_whole_queue(start, model, characters):
    """200 streams of one visitor, then the first one of another."""
    engine = start(rows=8, rows_per_visitor=4, waiting_per_visitor=5)
    streams, refused = [], 0
    for _ in range(200):
        try:
            streams.append(engine.submit("Once", LONG, visitor="many"))
        except UserError:
            refused += 1
    with pytest.raises(UserError, match="requests of your own are before this one"):
        engine.submit("Once", LONG, visitor="many")
    assert len(streams) <= 9 + 1
    assert refused >= 190
    assert engine.rows_in_use <= 4
    other = list(engine.submit("Once", Sampling(seed=9), visitor="one"))
    assert other == list(generate_pieces(model, characters, "Once", Sampling(seed=9)))
    for stream in streams:
        stream.cancel()


def test_visitors_take_turns_not_requests(start, monkeypatch):
    begun: list[int] = []
    real = module.BatchRow

    def note(model, tokens, sampling, openings):
        begun.append(sampling.seed)
        return real(model, tokens, sampling, openings)

    monkeypatch.setattr(module, "BatchRow", note)
    engine = start(rows=1, rows_per_visitor=1)
    blocker = engine.submit("Once", replace(LONG, seed=9))
    wait_until(lambda: begun == [9])
    streams = [
        engine.submit("Once", Sampling(max_new_tokens=3, seed=seed), visitor=visitor)
        for seed, visitor in enumerate(["a", "a", "a", "b", "c", "c"])
    ]
    blocker.cancel()
    assert [len(list(stream)) for stream in streams] == [3] * 6
    assert begun[1:] == [0, 3, 4, 1, 5, 2]  # a, b, c, a, c, a


def test_cache_bytes_are_bounded_and_a_large_request_still_comes(start, model):
    token = model.new_cache(1, 1).slab.nbytes
    engine = start(cache_bytes=100 * token)
    small = Sampling(max_new_tokens=36, stop_at_end_of_text=False)  # 4 + 36 of 160 tokens
    streams = [engine.submit("Once", small) for _ in range(5)]
    most = []
    large = engine.submit("x" * 200, small)
    reader = threading.Thread(target=lambda: [list(stream) for stream in (*streams, large)])
    reader.start()
    while reader.is_alive():
        most.append(engine.cache_bytes)
        time.sleep(0.001)
    assert max(most) <= 160 * token
    assert sorted(set(most) - {160 * token})[-1] <= 100 * token


def test_who_does_not_read_is_waited_for_and_then_given_up(start):
    engine = start(unread_pieces=20, unread_seconds=0.2)
    lazy = engine.submit("Once", LONG)
    wait_until(lambda: len(lazy._mailbox) >= 20)
    assert len(list(engine.submit("Once", Sampling(max_new_tokens=50, top_p=1)))) > 1
    assert len(lazy._mailbox) <= 21
    wait_until(lambda: not engine.rows_in_use)


def test_a_slow_reader_gets_everything(start, model, characters):
    engine = start(unread_pieces=10)
    pieces, stream = [], engine.submit("Once", Sampling(seed=4))
    while some := stream.take(pause=0.02):
        pieces += some
    assert pieces == list(generate_pieces(model, characters, "Once", Sampling(seed=4)))


def test_a_long_prompt_is_read_in_pieces_between_the_others_tokens(start, monkeypatch):
    """So that nobody waits for more than a chunk."""
    happened: list[str] = []
    real_read, real_step = module.read_row, module.step_rows

    def note(word: str, result):
        happened.append(word)
        return result

    monkeypatch.setattr(module, "chunk_of", lambda model: 16)
    monkeypatch.setattr("gpt2.decode.chunk_of", lambda model: 16)
    monkeypatch.setattr(module, "read_row", lambda *a: note("read", real_read(*a)))
    monkeypatch.setattr(module, "step_rows", lambda *a: note("step", real_step(*a)))
    engine = start()
    with engine.submit("Once", LONG) as other:
        next(other)
        happened.clear()
        list(engine.submit("x" * 160, replace(LONG, max_new_tokens=3)))
    assert happened.count("read") >= 10
    assert "read read" not in " ".join(happened)


LEAVES_IN_THE_MIDDLE = """
from gpt2.model import GPT2, ModelConfig
from gpt2.sampling import Sampling
from gpt2.tokenizer import CharacterTokenizer
from service.engine import Engine

engine = Engine(GPT2(ModelConfig(2, 64, 32, 2, 2)).eval(), CharacterTokenizer(["a", "b"]))
streams = [engine.submit("a", Sampling(max_new_tokens=90_000)) for _ in range(8)]
print(next(streams[0]).tokens)
"""


def test_a_program_may_end_while_texts_are_written():
    """It was aborted: "terminate called without an active exception", status 134."""
    ended = subprocess.run(
        [sys.executable, "-c", LEAVES_IN_THE_MIDDLE], cwd=ROOT, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (0, "1\n"), ended.stderr


# Prompts that were read before


LETTERS = "".join(map(chr, range(0x21, 0x7F)))
PROMPT = (LETTERS + LETTERS[::-1])[:150]  # one whole chunk of 128 characters, and more


@pytest.fixture
def fed(model, monkeypatch) -> list[int]:
    """The tokens of each chunk that is read."""
    seen: list[int] = []
    real = module.read_row
    monkeypatch.setattr(module, "read_row", lambda *given: seen.append(real(*given)) or seen[-1])
    return seen


def test_a_visitors_prompt_is_not_read_twice_and_no_bit_changes(start, model, characters, fed):
    engine = start()
    for seed in range(4):  # Retry, with other seeds
        how = Sampling(seed=seed, max_new_tokens=60)
        pieces = list(engine.submit(PROMPT, how, prompts="v"))
        assert pieces == list(generate_pieces(model, characters, PROMPT, how))
    assert fed[0] == 128
    assert fed.count(22) == 4


def test_what_one_visitor_wrote_is_never_found_by_another(start, fed):
    engine = start()
    for visitor in ("a", "b", None, None):
        list(engine.submit(PROMPT, Sampling(max_new_tokens=1), prompts=visitor))
    assert fed == [128, 22] * 4


def test_kept_prompts_are_bounded_and_the_oldest_goes(start, model, fed):
    chunk = model.new_cache(1, 128).slab.nbytes
    engine = start(prefix_bytes=2 * chunk)
    for first in "abcbca":
        list(engine.submit(first + PROMPT, Sampling(max_new_tokens=1), prompts="v"))
    assert fed == [128, 23] * 3 + [23] * 2 + [128, 23]
    assert engine._prefixes.bytes <= 2 * chunk


def test_the_number_of_threads_changes_no_text(start, model, characters):
    how = Sampling(seed=8, max_new_tokens=40)
    texts = {text_of(start().submit(PROMPT, how))}
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            texts.add(text_of(generate_pieces(model, characters, PROMPT, how)))
    finally:
        torch.set_num_threads(before)
    assert len(texts) == 1
