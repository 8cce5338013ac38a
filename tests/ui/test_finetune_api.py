"""The endpoints for runs as programs meet them: the client library, and raw requests."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from gradio_client import Client, handle_file

from gpt2.folder import load_model
from tests.support.app_server import wait_until
from tests.support.toy_runs import LONG, QUICK, TEXT

ENDPOINTS = ["/download_run", "/generate", "/run_status", "/start_run", "/stop_run"]
NOBODY = "0" * 32


@pytest.fixture(scope="module")
def server(toy_server):
    return toy_server


@pytest.fixture(scope="module")
def client(server, tmp_path_factory) -> Client:
    downloads = tmp_path_factory.mktemp("downloads")
    return Client(server.url, verbose=False, download_files=str(downloads))


def status(client: Client, run: str) -> dict:
    return client.predict(run, api_name="/run_status")


def wait_for(client: Client, run: str, true) -> dict:
    wait_until(lambda: true(status(client, run)), "the run", 60)
    return status(client, run)


def refusal(client: Client, endpoint: str, *values: object, **named: object) -> str:
    with pytest.raises(Exception) as refused:  # noqa: PT011 - the client's own kinds vary
        client.predict(*values, api_name=endpoint, **named)
    return str(refused.value)


def test_start_watch_download_and_open(client, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    run = client.predict(
        file=handle_file(str(file)), model="toy", settings=QUICK, api_name="/start_run"
    )
    assert re.fullmatch("[0-9a-f]{32}", run)
    found = wait_for(client, run, lambda s: s["state"] == "done")
    assert json.loads(json.dumps(found)) == found, "plain JSON"
    assert (found["step"], found["steps"], found["preset"]) == (12, 12, "taste")
    assert found["progress"][0]["step"] == 0
    assert found["samples"][0]["step"] == 0
    assert found["model"] == "toy", "a name, never a folder"
    answer = client.predict(run, api_name="/download_run")
    path = Path(answer["path"] if isinstance(answer, dict) else answer)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    load_model(folder, "cpu")
    text = client.predict("It is", f"run:{run}", max_new_tokens=3, api_name="/generate")
    assert isinstance(text, str)


def test_a_table_in_an_encoding_of_its_own(client, tmp_path):
    file = tmp_path / "tweets.csv"
    rows = "".join(f"{index};Příliš žluťoučký kůň úpěl ďábelské ódy\n" for index in range(40))
    file.write_bytes(("id;text\n" + rows).encode("cp852"))
    order = {"file": handle_file(str(file)), "model": "toy", "settings": QUICK, "column": "text"}
    assert "name its encoding" in refusal(client, "/start_run", **order).lower()
    run = client.predict(**order, encoding="cp852", api_name="/start_run")
    found = wait_for(client, run, lambda s: s["state"] == "done")
    assert found["encoding"] == "cp852"
    assert "read as cp852" in found["notes"]


def test_stopping_keeps_a_model(client):
    run = client.predict(TEXT, None, "toy", "taste", LONG, api_name="/start_run")
    wait_for(client, run, lambda s: s["step"] >= 20)
    client.predict(run, "latest", api_name="/stop_run")
    found = wait_for(client, run, lambda s: s["state"] == "stopped")
    assert found["result_ready"]
    assert 20 <= found["step"] < LONG["steps"]
    assert "ended already" in refusal(client, "/stop_run", run, "best")


def test_a_strangers_id_gets_nothing(client):
    for run in (NOBODY, "", "../x", "run:" + NOBODY, "x" * 10_000):
        for endpoint in ("/run_status", "/stop_run", "/download_run"):
            assert "no such run" in refusal(client, endpoint, run)
        assert "no such model" in refusal(client, "/generate", "a", f"run:{run}") or (
            run == NOBODY and "no such run" in refusal(client, "/generate", "a", f"run:{run}")
        )


GOOD = {"text": TEXT, "file": None, "model": "toy", "preset": "taste", "settings": {"steps": 5}}
REFUSED = [
    *[("text", value) for value in (None, 5, ["a"], "", "   ", "short", "\0" * 5000)],
    *[("model", value) for value in (None, 5, "/etc", "124M", "user/name", f"run:{NOBODY}")],
    *[("preset", value) for value in (None, 5, "fast", "Taste", ["taste"])],
    *[("settings", value) for value in (5, "steps=5", ["steps"], {"compile": True}, {"x": 1})],
    *[("settings", {"steps": value}) for value in (0, -1, 1e300, True, None, "5", [5])],
    *[("settings", {"learning_rate": value}) for value in (0, 1, "x")],
    *[("file", {"path": path}) for path in ("/etc/passwd", "../x", "http://169.254.169.254/")],
    *[("file", value) for value in (5, "x.txt", {"path": None}, [])],
    *[("encoding", value) for value in (5, "nonsense", "base64", "utf-8", ["utf-8"])],
    *[("column", value) for value in (5, "text", ["text"])],
    *[("owner", value) for value in (5, "x", NOBODY.upper() + "A", "../" + NOBODY)],
]


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=lambda value: ascii(value)[:24])
def test_bad_orders_are_refused_clearly_and_leave_nothing(server, name, value):
    before = set(server.runs.folder.glob("[0-9a-f]*"))
    started = time.monotonic()
    data = GOOD | {"column": "", "owner": "", "encoding": ""} | {name: value}
    if name == "file":
        data["text"] = ""
    kind, answer = call(server, "start_run", list(data.values()))
    assert kind == "error", answer
    assert time.monotonic() - started < 5
    message = answer["error"] if isinstance(answer, dict) else str(answer)
    assert 10 < len(message) < 500, message
    assert "Traceback" not in message
    assert "Something went wrong" not in message, "refused by accident"
    assert set(server.runs.folder.glob("[0-9a-f]*")) == before
    assert Path("/etc/passwd").exists()


def call(server, endpoint: str, data: list) -> tuple[str, object]:
    url = f"{server.url}/gradio_api/call/{endpoint}"
    body = json.dumps({"data": data}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            event = json.load(answer)["event_id"]
    except urllib.error.HTTPError as error:
        return "error", f"refused with status {error.code}"
    with urllib.request.urlopen(f"{url}/{event}", timeout=30) as answer:
        events = answer.read().decode()
    kind, found = re.findall(r"event: (complete|error)\ndata: (.*)", events)[-1]
    return kind, json.loads(found)


def test_one_visitor_runs_one_and_waits_with_one(client, server):
    owner = "ab" * 16
    order = {"text": TEXT, "model": "toy", "settings": LONG, "owner": owner}
    runs = [client.predict(**order, api_name="/start_run") for _ in range(2)]
    assert refusal(client, "/start_run", **order)
    assert status(client, runs[1])["state"] == "queued"
    assert status(client, runs[1])["place"] == 1
    assert server.runs.delete_owner(owner) == 2


def test_only_these_endpoints_are_public(server):
    described = server.get("/gradio_api/info")
    assert sorted(described["named_endpoints"]) == ENDPOINTS
    assert described["unnamed_endpoints"] == {}
