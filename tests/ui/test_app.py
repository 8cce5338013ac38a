"""The server as programs meet it: over HTTP, with the client library and with raw requests."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from gradio_client import Client

import app
from gpt2.errors import UserError
from gpt2.folder import read_default_prompt
from gpt2.hub.resolve import STORYTELLER_FOLDER
from gpt2.sampling import Sampling
from tests.support.app_server import Forwards, Server, make_tiny_model, serve, wait_until
from ui.generation import Step, parse_request
from ui.models import Models
from ui.write.snippets import as_command, as_curl, as_python

ROOT = Path(app.__file__).parent
FIELDS = [
    "prompt",
    "model",
    "max_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "seed",
    "stop",
    "stop_at_end_of_text",
    "min_p",
]
GOOD = dict(zip(FIELDS, ("Once", "tiny", 5, 0.8, 40, 0.95, 1.1, 1, "", True, 0.0)))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def server(tiny):
    with pytest.MonkeyPatch.context() as patch, serve(str(tiny), patch) as running:
        yield running


@pytest.fixture
def forwards(server) -> Forwards:
    server.forwards.after_quiet(0.2)
    server.forwards.count, server.forwards.pause = 0, 0.0
    return server.forwards


@pytest.fixture(scope="module")
def client(server) -> Client:
    return Client(server.url, verbose=False)


def call(server: Server, body: str | bytes) -> tuple[str, object]:
    """One raw call of /generate: ("complete" or "error", its data), or ("refused", the status)."""
    url = f"{server.url}/gradio_api/call/generate"
    body = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            event = json.load(answer)["event_id"]
    except urllib.error.HTTPError as error:
        return "refused", error.code
    with urllib.request.urlopen(f"{url}/{event}", timeout=30) as answer:
        events = answer.read().decode()
    kind, data = re.findall(r"event: (complete|error)\ndata: (.*)", events)[-1]
    return kind, json.loads(data)


def generate(server: Server, **changes: object) -> tuple[str, object]:
    return call(server, json.dumps({"data": list((GOOD | changes).values())}))


def error_of(data: object) -> str:
    return data["error"] if isinstance(data, dict) else str(data)


# ---- generating -----------------------------------------------------------------------------


def test_the_client_sees_the_text_grow(client, forwards):
    forwards.pause = 0.02
    job = client.submit("Once", max_new_tokens=50, api_name="/generate")
    seen = list(job)
    assert len(seen) >= 4
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(seen))
    assert job.result() == seen[-1] != ""
    assert forwards.count == 50


def test_updates_come_five_to_ten_times_a_second(client, forwards):
    forwards.pause = 0.01
    started, times = time.monotonic(), []
    for _ in client.submit("Once", max_new_tokens=180, api_name="/generate"):
        times.append(time.monotonic() - started)
    rate = (len(times) - 1) / (times[-1] - times[0])
    assert 4 < rate <= 10, f"{rate:.1f} updates a second"


def test_cancelling_ends_the_computation_and_frees_the_worker(client, forwards):
    forwards.pause = 0.03
    job = client.submit("Once", max_new_tokens=1000, api_name="/generate")
    forwards.wait_for(10)
    job.cancel()
    at_cancel = forwards.count
    after = forwards.after_quiet()
    assert after - at_cancel <= 8, "more than one update's worth was computed after the cancel"
    forwards.pause = 0.0
    started = time.monotonic()
    assert client.predict("Once", max_new_tokens=3, api_name="/generate")
    assert time.monotonic() - started < 2


def test_a_client_that_vanishes_ends_the_computation(server, forwards):
    forwards.pause = 0.03
    body = json.dumps({"data": list((GOOD | {"max_new_tokens": 1000}).values())})
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request(
        "POST", "/gradio_api/call/generate", body, {"Content-Type": "application/json"}
    )
    event = json.load(connection.getresponse())["event_id"]
    stream = socket.create_connection(host.split(":"), timeout=10)
    stream.sendall(
        f"GET /gradio_api/call/generate/{event} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    )
    forwards.wait_for(10)
    stream.close()
    assert forwards.after_quiet(1.0) < 60


def test_many_are_written_together_and_each_says_what_it_says_alone(client, forwards):
    settings = {"max_new_tokens": 40, "api_name": "/generate"}
    prompts = ["Once", "Twice", "Thrice " * 30, "Once"]
    alone = [client.predict(prompt, seed=seed, **settings) for seed, prompt in enumerate(prompts)]
    forwards.count, forwards.pause = 0, 0.02
    jobs = [client.submit(prompt, seed=seed, **settings) for seed, prompt in enumerate(prompts)]
    assert [job.result() for job in jobs] == alone
    assert forwards.count < 3 * 40, "they were written one after the other"


def test_the_same_seed_gives_the_same_text_and_random_ones_differ(server):
    assert generate(server) == generate(server)
    first, second = generate(server, seed=-1), generate(server, seed=-1)
    assert first[0] == second[0] == "complete"
    assert first != second


def test_without_a_prompt_the_storyteller_begins_a_story_and_says_how(server):
    """Once, it began with the end of a book: a broken heading, or a talk that nobody had begun."""
    begun = read_default_prompt(STORYTELLER_FOLDER)
    asked = {"model": "storyteller", "max_new_tokens": 5, "seed": 1}
    _, whole = generate(server, prompt="", **asked)
    _, rest = generate(server, prompt=begun, **asked)
    assert whole[0] == begun + rest[0]
    request = parse_request(Models(), "", "storyteller")
    assert (request.prompt, request.begun) == (begun, begun)
    assert parse_request(Models(), "A fox", "storyteller").begun == ""


def test_a_stop_text_ends_the_text_before_it(server):
    _, (whole,) = generate(server, max_new_tokens=20)
    stop = whole[len(whole) // 2 :][:2]
    _, (cut,) = generate(server, max_new_tokens=20, stop=stop)
    assert cut == whole[: whole.index(stop)]
    _, (cut,) = generate(server, max_new_tokens=20, stop=["never said", stop, ""])
    assert cut == whole[: whole.index(stop)]


# ---- what is refused ------------------------------------------------------------------------

REFUSED = [
    *[("temperature", value) for value in (float("nan"), float("inf"), -1, "1", True, None, [1])],
    *[("top_k", value) for value in (-1, 1.5, "40", True, None, 10**9, [40])],
    *[("top_p", value) for value in (0, 1.0000001, -0.1, float("nan"), "0.9", None)],
    *[("repetition_penalty", value) for value in (0, -1, float("inf"), "1", None, {})],
    *[("max_new_tokens", value) for value in (0, -5, 10**9, 1.5, "5", None, 1000 + 1)],
    *[("seed", value) for value in (2**64, -2, 0.5, "1", True, None, 1e300)],
    *[("stop", value) for value in (None, 1, [1], "x" * 1001, ["x"] * 17, {"x": 1})],
    *[("stop_at_end_of_text", value) for value in (None, 1, "yes")],
    *[
        ("model", value)
        for value in (None, "no-such", "", ["tiny"], {"name": "tiny"}, True, "../tiny")
    ],
    *[("model", value) for value in ("/etc", "gpt2", "openai-community/gpt2", "124M", "tiny\0")],
    *[
        ("prompt", value)
        for value in (None, 5, True, ["Once"], {"text": "Once"}, "\ud800", "a\udfffb")
    ],
    *[("prompt", character * 1_000_000) for character in "a^ "],
]


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=lambda value: ascii(value)[:24])
def test_bad_input_is_refused_clearly_and_at_once(server, forwards, name, value):
    started = time.monotonic()
    kind, data = generate(server, **{name: value})
    assert time.monotonic() - started < 2
    assert kind == "error", data
    message = error_of(data)
    assert 10 < len(message) < 400
    assert "Traceback" not in message
    assert "Error" not in message
    assert "Something went wrong" not in message, "refused by accident"
    assert forwards.count == 0


def test_the_folder_of_the_model_is_no_name_for_it(server, tiny):
    kind, data = generate(server, model=str(tiny))
    assert kind == "error"
    assert str(tiny) not in error_of(data)


ACCEPTED = [
    *[("temperature", value) for value in (0, 1e-30, 2, 100)],
    *[("top_k", value) for value in (0, 40.0, 50257, 50258, 60000)],
    *[("top_p", value) for value in (1, 1e-9)],
    *[("seed", value) for value in (-1, -1.0, 0, 2**53)],
    *[
        ("prompt", value)
        for value in ("", " ", "\n\r\n", "\0", "\ufeffx", "\u202eabc", "{{x}}${y}%s")
    ],
    *[("prompt", value) for value in ("<|endoftext|>" * 10_000, "<script>alert(1)</script>")],
    *[("prompt", value) for value in ("👩‍👩‍👧‍👦" * 10_000, "e" + "\u0301" * 10_000, "\x1b[31mred")],
    *[("prompt", character * 300_000) for character in "a^ "],
]


@pytest.mark.parametrize(("name", "value"), ACCEPTED, ids=lambda value: ascii(value)[:24])
def test_odd_but_valid_input_is_continued(server, name, value):
    started = time.monotonic()
    kind, data = generate(server, **{name: value})
    assert kind == "complete", data
    assert time.monotonic() - started < 5


def test_malformed_requests_leave_the_server_answering(server):
    bodies = [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b'{"data": 5}',
        b'{"data": []}',
        json.dumps({"data": [1] * 50}).encode(),
        b'{"data": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"data": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    ]
    for body in bodies:
        kind, data = call(server, body)
        assert kind == "error" or (kind == "refused" and data in (400, 422, 500)), (body[:20], data)
    assert generate(server)[0] == "complete"


def status_of(server: Server, path: str, body: object) -> int:
    request = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_pages_own_generation_parses_its_inputs_too(server, forwards):
    """A private function called directly, past all controls of the page."""
    functions = server.get("/config")["dependencies"]
    compose = next(f for f in functions if f["api_name"] == "compose")
    good = ["Once", "tiny", 5, 0.8, 40, 0.95, 1.1, 1, 1, "", True, 0.0]
    assert "tokens" in run_privately(server, compose["id"], [None, *good])
    for place, value in ((1, "/etc"), (1, "124M"), (2, 10**9), (3, True), (8, 5), (8, 2.5)):
        forwards.count = 0
        data = [None, *good]
        data[place + 1] = value
        run_privately(server, compose["id"], data)
        assert forwards.count == 0, (place, value)


def run_privately(server: Server, function: int, data: list) -> str:
    """Everything that the queue answers to one call."""
    session = f"private-{time.monotonic_ns()}"
    body = {"fn_index": function, "data": data, "session_hash": session}
    assert status_of(server, "/gradio_api/queue/join", body) == 200
    url = f"{server.url}/gradio_api/queue/data?session_hash={session}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def test_the_parameters_of_generate_are_public(server):
    described = server.get("/gradio_api/info")
    parameters = described["named_endpoints"]["/generate"]["parameters"]
    assert [parameter["parameter_name"] for parameter in parameters] == FIELDS
    assert [p["parameter_has_default"] for p in parameters] == [False] + [True] * (len(FIELDS) - 1)


def test_calls_beside_the_queue_are_refused(server):
    for path in ("/gradio_api/run/generate", "/gradio_api/api/generate"):
        assert status_of(server, path, {"data": list(GOOD.values())}) == 404


# ---- models ---------------------------------------------------------------------------------


def test_a_model_is_read_once_for_many_visitors(tiny, monkeypatch):
    import ui.models

    reads = []
    real = ui.models.load_for_inference
    monkeypatch.setattr(
        ui.models,
        "load_for_inference",
        lambda name, *how: (reads.append(name), time.sleep(0.2), real(name, *how))[2],
    )
    models = Models(str(tiny))
    threads = [threading.Thread(target=models.load, args=("tiny",)) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert reads == [str(tiny)]


def test_the_model_used_longest_ago_leaves_when_memory_is_short(tiny):
    models = Models(str(tiny), memory=30e6)  # the storyteller alone fills it
    first = models.load("tiny")
    assert models.load("tiny") is first
    models.load("storyteller")
    assert models.load("tiny") is not first


def test_a_model_larger_than_the_memory_is_refused_before_any_download(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("ui.models.resolve", lambda name: pytest.fail("it went to the Hub"))
    with pytest.raises(UserError, match="memory"):
        Models(memory=4e9).fetch("1558M")


def test_the_server_starts_on_the_storyteller_and_on_124M_once_that_is_here(tiny, monkeypatch):
    monkeypatch.setattr("gpt2.hub.resolve._cached", lambda repository: None)
    assert Models().start().choice.name == "storyteller"
    monkeypatch.setattr("gpt2.hub.resolve._cached", lambda repository: tiny)
    assert Models().start().choice.name == "124M"
    monkeypatch.setattr("gpt2.hub.resolve._cached", lambda repository: tiny / "broken")
    assert Models().start().choice.name == "storyteller"


@pytest.mark.parametrize("name", ["gpt2-medium", "openai-community/gpt2-medium"])
def test_a_size_given_by_its_other_name_is_that_choice_and_not_one_more(name):
    names = [choice.name for choice in Models(name).choices]
    assert names == ["355M", "storyteller", "124M", "774M", "1558M"]


def test_a_step_says_how_it_ended():
    step = Step("a", tokens=87, seconds=2.1, seed=1234, endings=("end of text",))
    assert step.summary() == "87 tokens, 41 tok/s, seed 1234, stopped: end of text"


# ---- copied settings ------------------------------------------------------------------------

NASTY = "It's \"quoted\" $HOME `id` \\n %s\n— naïve 'text' !"


STOPS = ("'q\"$x", "---", "\n \n", "\\n", "--json")


@pytest.fixture
def settings() -> Sampling:
    return Sampling(max_new_tokens=12, seed=77, top_k=30, temperature=1.1, stop=STOPS)


def texts_of(command: list[str] | str, **options) -> str:
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "PATH": path}
    done = subprocess.run(
        command, capture_output=True, cwd=ROOT, env=environment, timeout=60, **options
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_copied_python_and_command_line_repeat_the_text(server, tiny, settings):
    changes = {name: getattr(settings, name) for name in FIELDS if hasattr(settings, name)}
    _, (text,) = generate(server, prompt=NASTY, **changes)
    program = as_python(str(tiny), NASTY, settings)
    assert texts_of([sys.executable, "-c", program]) == NASTY + text + "\n"
    command = as_command(str(tiny), NASTY, settings)
    assert texts_of(["bash", "-c", command]) == NASTY + text + "\n"


def test_the_copied_command_line_of_a_dash_continues_a_dash(server, tiny, settings):
    """It read standard input, and waited for ever."""
    changes = {name: getattr(settings, name) for name in FIELDS if hasattr(settings, name)}
    _, (text,) = generate(server, prompt="-", **changes)
    command = as_command(str(tiny), "-", settings)
    assert texts_of(["bash", "-c", command]) == "-" + text + "\n"


def test_copied_curl_repeats_the_text(server, settings):
    changes = {name: getattr(settings, name) for name in FIELDS if hasattr(settings, name)}
    _, expected = generate(server, prompt=NASTY, **changes)
    answer = texts_of(["bash", "-c", as_curl("tiny", NASTY, settings, server.url)])
    kind, data = re.findall(r"event: (\w+)\ndata: (.*)", answer)[-1]
    assert kind == "complete"
    assert json.loads(data) == expected


# ---- the program ----------------------------------------------------------------------------


def start_program(*arguments: str) -> subprocess.Popen:
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "app.py", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_program_writes_its_first_words_within_20_seconds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    program = start_program("--model", "storyteller", "--port", str(port))
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(url), "the page", 20)
        client = Client(url, verbose=False)
        first = next(iter(client.submit("Once upon a time", api_name="/generate")))
        assert time.monotonic() - started < 20
        assert first.strip()
    finally:
        program.terminate()
        output = program.communicate(timeout=10)[0]
    assert "Traceback" not in output


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError:
        return False


def test_the_program_refuses_a_model_that_is_none():
    program = start_program("--model", "/no/such/folder")
    output = program.communicate(timeout=30)[0]
    assert program.returncode == 2
    assert output.startswith("error: ")
    assert output.count("\n") == 1


def test_it_listens_on_this_machine_only_except_on_a_space(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert app.parse_arguments([]).host == "127.0.0.1"
    monkeypatch.setenv("SPACE_ID", "somebody/something")
    assert app.parse_arguments([]).host == "0.0.0.0"
    assert app.parse_arguments(["--host", "127.0.0.2"]).host == "127.0.0.2"
