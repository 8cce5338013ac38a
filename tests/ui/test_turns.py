"""One client cannot keep the others waiting, evict what they keep, or fill what all share.

Clients are told apart by address; here 127.0.0.1 and 127.0.0.2, both of this machine.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from gradio.utils import get_upload_folder

from tests.support.app_server import make_tiny_model, serve, wait_until
from ui import room, turns
from ui.client import client_of_scope
from ui.generation import WORKER
from ui.hardening import SESSIONS_OF_CLIENT, HeardStream
from ui.turns import CLIENT_PLACES, LANE_PLACES, UNREAD_SESSIONS, LastTurns, LightHandlers

HERE, THERE = "127.0.0.1", "127.0.0.2"
SHORT = {"prompt": "a", "max_new_tokens": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    with pytest.MonkeyPatch.context() as patch, serve(str(folder), patch) as running:
        yield running


def ask(server, path: str, body: object = None, address: str = HERE) -> tuple[int, str]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), 30, source_address=(address, 0))
    data = None if body is None else json.dumps(body)
    try:
        connection.request(
            "POST" if data else "GET", path, data, {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def begin(server, name: str, body: dict, address: str = HERE) -> tuple[int, str]:
    """(status, event id or refusal) of a call that is not fetched yet."""
    status, text = ask(server, f"/gradio_api/call/v2/{name}", body, address)
    return status, json.loads(text)["event_id"] if status == 200 else text


def fetch(server, name: str, event: str, address: str = HERE) -> str:
    return ask(server, f"/gradio_api/call/{name}/{event}", address=address)[1]


def quiet(server) -> None:
    queue = server.page._queue
    wait_until(lambda: not len(queue) and not queue.get_active_worker_count(), "an idle queue", 60)


@pytest.fixture
def slow(server, monkeypatch):
    """Each token takes as long as a large model's, and one text is written at a time; an idle queue
    before and after."""
    quiet(server)
    fetch(server, "generate", begin(server, "generate", SHORT)[1])
    lane = server.page._queue.event_queue_per_concurrency_id[WORKER]
    monkeypatch.setattr(lane, "concurrency_limit", 1)
    monkeypatch.setattr(server.forwards, "pause", 0.1)
    yield
    server.forwards.pause = 0.0
    quiet(server)


def test_a_flood_from_one_address_costs_another_one_turn(server, slow):
    """Once, one flooder with three sockets kept everybody else out: 0 of 63 requests in 20 s."""
    flood = [begin(server, "generate", SHORT | {"max_new_tokens": 4}) for _ in range(60)]
    refused = [text for status, text in flood if status == 503]
    assert len(refused) >= 60 - CLIENT_PLACES - 3
    assert "from your address are waiting already" in refused[0]
    before = len(server.page._queue)
    assert before >= CLIENT_PLACES - 3
    status, event = begin(server, "generate", SHORT, THERE)
    assert status == 200, event
    assert "event: complete" in fetch(server, "generate", event, THERE)
    assert len(server.page._queue) > before - 4  # nearly all of the flood still waits


def test_a_look_and_a_stop_are_answered_while_others_wait_for_a_model(server, slow):
    for _ in range(CLIENT_PLACES):
        begin(server, "generate", SHORT | {"max_new_tokens": 20})
    for name, body in (("run_status", {"run": "0" * 32}), ("stop_run", {"run": "0" * 32})):
        status, event = begin(server, name, body)
        assert status == 200
        assert "event: error" in fetch(server, name, event)
    assert len(server.page._queue) >= CLIENT_PLACES - 2


def test_a_lane_that_is_full_says_so(server, slow):
    addresses = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
    given = [
        begin(server, "generate", SHORT | {"max_new_tokens": 40}, address)
        for address in addresses
        for _ in range(CLIENT_PLACES)
    ]
    refused = [text for status, text in given if status == 503]
    assert len(refused) >= len(given) - LANE_PLACES - 3
    assert "The server is busy: 40 are waiting already" in refused[-1]


def test_answers_that_nobody_fetches_are_not_kept(server):
    queue = server.page._queue
    for index in range(UNREAD_SESSIONS + 60):
        status, _ = begin(server, "run_status", {"run": "0" * 32}, f"127.0.1.{index % 200 + 1}")
        assert status == 200
    quiet(server)
    begin(server, "run_status", {"run": "0" * 32})
    assert len(queue.pending_messages_per_session) <= UNREAD_SESSIONS + 2
    assert len(queue.pending_event_ids_session) <= UNREAD_SESSIONS + 2
    assert len(queue.event_ids_to_events) <= 2


def predict(server, session: str, address: str, index: int, data: list) -> tuple[int, str]:
    body = {"fn_index": index, "session_hash": session, "data": data}
    return ask(server, "/gradio_api/run/predict", body, address)


def light_handler(server, name: str) -> tuple[int, int]:
    """(index, number of inputs) of a handler that runs without the queue."""
    for index, fn in server.page.fns.items():
        if fn.name == name and not fn.queue:
            return index, len(fn.inputs)
    raise AssertionError(name)


def test_invented_sessions_evict_their_own_and_nobody_elses(server):
    """Once, 1,001 requests with invented sessions made other visitors' texts go."""
    index, count = light_handler(server, "undo")
    data = [None] * count
    assert predict(server, "mine", THERE, index, data)[0] == 200
    before = len(server.page.state_holder.session_data)
    for _ in range(SESSIONS_OF_CLIENT + 50):
        assert predict(server, uuid.uuid4().hex, HERE, index, data)[0] == 200
    sessions = server.page.state_holder.session_data
    assert "mine" in sessions
    assert len(sessions) <= before + SESSIONS_OF_CLIENT


def in_a_loop_of_its_own(work):
    """In a thread: in this one, a browser's loop may be running."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result(30)


def test_handlers_without_a_queue_leave_room():
    """So many at a time, fewer for one client, and no client waits for another's crowd."""
    light = LightHandlers()
    running: dict[str, int] = {}
    most: dict[str, int] = {}

    async def handle(client: str) -> None:
        async with light.place(client):
            running[client] = running.get(client, 0) + 1
            most[client] = max(most.get(client, 0), running[client])
            most["all"] = max(most.get("all", 0), sum(running.values()))
            await asyncio.sleep(0.01)
            running[client] -= 1

    async def all_at_once() -> None:
        await asyncio.gather(*(handle(client) for client in "aaaaaaaaaabbbbbbcccc"))

    in_a_loop_of_its_own(all_at_once())
    assert most["a"] == most["b"] == turns.LIGHT_FOR_CLIENT
    assert most["all"] == turns.LIGHT_AT_ONCE
    assert light._waiting == light._clients == {}


def test_a_client_with_too_many_light_requests_is_refused_in_words():
    light = LightHandlers()

    async def crowd() -> list:
        async def wait() -> None:
            async with light.place("a"):
                await asyncio.sleep(0.05)

        return await asyncio.gather(
            *(wait() for _ in range(turns.LIGHT_WAITING + 5)), return_exceptions=True
        )

    refused = [str(one) for one in in_a_loop_of_its_own(crowd()) if one is not None]
    assert len(refused) == 5
    assert "Too much at once" in refused[0]


def test_who_waited_longest_comes_next():
    order = LastTurns()
    waiting = ["a1", "a2", "a3", "b1", "c1", "a1", "b2", "b1"]
    served = []
    while waiting:
        following = min(waiting, key=lambda one: order.order(one[0], one))
        waiting.remove(following)
        order.take(following[0], following)
        served.append(following)
    assert served == ["a1", "b1", "c1", "a2", "b2", "a3", "b1", "a1"]


@pytest.mark.parametrize(
    ("space", "forwarded", "client"),
    [
        (False, b"1.2.3.4", "10.0.0.9"),  # anybody can write that
        (True, b"1.2.3.4", "1.2.3.4"),
        (True, b"6.6.6.6, 1.2.3.4", "1.2.3.4"),  # what a visitor wrote stands before it
        (True, b"", "10.0.0.9"),
    ],
)
def test_the_address_is_the_one_that_the_last_proxy_saw(monkeypatch, space, forwarded, client):
    monkeypatch.setenv("SPACE_ID", "a/b") if space else monkeypatch.delenv("SPACE_ID", False)
    headers = [(b"x-forwarded-for", forwarded)] if forwarded else []
    assert client_of_scope({"client": ("10.0.0.9", 1), "headers": headers}) == client


def upload(server, content: bytes = b"the same text", address: str = HERE) -> tuple[int, str]:
    boundary = "x" * 20
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n'
        "Content-Type: text/plain\r\n\r\n"
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), 30, source_address=(address, 0))
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    try:
        connection.request("POST", "/gradio_api/upload", body, kind)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_the_same_file_of_two_visitors_is_two_files(server):
    """Once, the first to be done deleted it for the second: "your file is gone"."""
    paths = [json.loads(upload(server, address=address)[1])[0] for address in (HERE, THERE)]
    assert len(set(paths)) == 2
    assert all(Path(path).read_bytes() == b"the same text" for path in paths)


def test_uploads_have_room_in_all_and_each_client_so_much_in_a_while(server, monkeypatch):
    monkeypatch.setattr(room, "CLIENT_BYTES", 3000)
    address = "127.0.3.1"
    assert [upload(server, bytes(1000), address)[0] for _ in range(4)] == [200, 200, 429, 429]
    assert "Wait a while" in upload(server, bytes(1000), address)[1]
    assert upload(server, bytes(1000), "127.0.3.2")[0] == 200
    monkeypatch.setattr(room, "CLIENT_SECONDS", 0.0)
    assert upload(server, bytes(1000), address)[0] == 200
    monkeypatch.setattr(room, "TEMPORARY_BYTES", 500)
    status, words = upload(server, bytes(1000), "127.0.3.3")
    assert (status, "no room for more files" in words) == (507, True)


def test_an_upload_that_breaks_off_leaves_no_file(server):
    """Once, 75 of 75 MB of such uploads stayed for ever."""
    place = Path(get_upload_folder())
    place.mkdir(parents=True, exist_ok=True)
    before = set(place.iterdir())
    head = (
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
    )
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 10) as line:
        line.sendall(head + bytes(500_000))
        wait_until(lambda: set(place.iterdir()) - before, "the file")
    wait_until(lambda: not set(place.iterdir()) - before, "its end")


def test_a_reader_who_leaves_before_the_stream_begins_has_left():
    """A text that was asked for and cut off at once was written to its end, for nobody."""
    steps = []

    async def events():
        steps.append("looked whether somebody is there")
        yield "never sent"
        steps.append("went on")

    async def cut() -> None:
        async def receive() -> dict:
            return {"type": "http.disconnect"}

        async def send(message: dict) -> None:
            await asyncio.sleep(1)  # the line is slow, and cut

        with suppress(Exception):  # what cancelling raises differs by version
            await HeardStream(events())({"type": "http"}, receive, send)

    in_a_loop_of_its_own(cut())
    assert steps == ["looked whether somebody is there"]


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2, 0.4])
def test_a_cancelled_text_is_written_no_further(server, monkeypatch, seconds):
    """In one of three cancels the text was written to its end, as something still held it."""
    quiet(server)
    monkeypatch.setattr(server.forwards, "pause", 0.1)
    index = next(i for i, fn in server.page.fns.items() if fn.api_name == "generate")
    session = uuid.uuid4().hex
    data = ["Once", server.models.choices[0].name, 500]
    body = {"data": data, "session_hash": session}
    event = json.loads(ask(server, "/gradio_api/call/generate", body)[1])["event_id"]
    server.forwards.wait_for(server.forwards.count + 1)
    time.sleep(seconds)
    cancel = {"session_hash": session, "fn_index": index, "event_id": event}
    assert ask(server, "/gradio_api/cancel", cancel)[0] == 200
    seen = server.forwards.count
    assert server.forwards.after_quiet() <= seen + 2
