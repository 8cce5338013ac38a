"""Names to folders: from this machine at once, from the Hub, or with the next best thing to do."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gpt2.errors import UserError
from gpt2.folder import load_model, save_model
from gpt2.hub.errors import translate_hub_errors
from gpt2.hub.resolve import STORYTELLER_FOLDER, find_local, hub_name, resolve
from gpt2.model import GPT2, ModelConfig
from gpt2.tokenizer import CharacterTokenizer

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    shape = ModelConfig(vocab_size=3, n_positions=8, n_embd=8, n_layer=1, n_head=1)
    save_model(path, GPT2(shape), CharacterTokenizer(["a", "b", "c"]))
    return path


@pytest.fixture(scope="module")
def hub(folder):
    """A server with the one repository user/toy, over real HTTP, for the real client."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = self.path.partition("?")[0]
            file = folder / path.rpartition("/")[2]
            if not path.startswith(("/user/toy/", "/api/models/user/toy")):
                self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif path.startswith("/api/"):
                names = [{"rfilename": item.name} for item in folder.iterdir()]
                tree = [
                    {"type": "file", "path": item.name, "size": item.stat().st_size, "oid": COMMIT}
                    for item in folder.iterdir()
                ]
                info = {"id": "user/toy", "sha": COMMIT, "siblings": names}
                self.answer(200, json.dumps(tree if "/tree/" in path else info).encode(), {})
            elif file.is_file():
                self.answer(200, file.read_bytes(), {"ETag": f'"{file.name}"'})
            else:
                self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})

        def answer(self, status, body, headers):
            self.send_response(status)
            for name, value in {"X-Repo-Commit": COMMIT, **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def resolve_elsewhere(name: str, cache: Path, endpoint: str) -> tuple[int, str, float]:
    """`resolve` in a process of its own: the Hub client fixes its settings when imported."""
    hidden = ("HF_", "TRANSFORMERS_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    environment |= {"HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "PYTHONPATH": str(ROOT)}
    environment |= {"HF_HUB_DISABLE_XET": "1"}
    code = (
        "import sys, time\n"
        "from gpt2.errors import UserError\n"
        "import huggingface_hub\n"
        "from gpt2.hub.resolve import resolve\n"
        "start = time.perf_counter()\n"
        "try: print(resolve(sys.argv[1]))\n"
        "except UserError as error: print(error); sys.exit(2)\n"
        "finally: print(time.perf_counter() - start, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout.strip(), float(done.stderr.strip().splitlines()[-1])


def test_a_folder_and_the_bundled_model_are_found_without_a_network(folder):
    assert resolve(str(folder)) == folder
    assert resolve("storyteller") == STORYTELLER_FOLDER


def test_a_repository_is_downloaded_once_and_then_found_offline(hub, folder, tmp_path):
    status, path, _ = resolve_elsewhere("user/toy", tmp_path, hub)
    assert status == 0, path
    ours, theirs = load_model(path)[0].state_dict(), load_model(folder)[0].state_dict()
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    status, again, _ = resolve_elsewhere("user/toy", tmp_path, "http://127.0.0.1:9")
    assert (status, again) == (0, path)


def test_a_download_that_broke_off_is_not_taken_for_a_model(hub, tmp_path):
    """config.json arrives first; a cache with it and nothing else must not be trusted offline."""
    _, path, _ = resolve_elsewhere("user/toy", tmp_path, hub)
    (Path(path) / "model.safetensors").unlink()
    status, message, _ = resolve_elsewhere("user/toy", tmp_path, "http://127.0.0.1:9")
    assert status == 2
    assert "cannot be reached" in message
    status, again, _ = resolve_elsewhere("user/toy", tmp_path, hub)
    assert status == 0
    assert load_model(again)


@pytest.mark.parametrize("name", ["124M", "1558M", "user/toy"])
def test_offline_an_unknown_name_is_answered_in_two_seconds(name, tmp_path):
    status, message, seconds = resolve_elsewhere(name, tmp_path, "http://127.0.0.1:9")
    assert status == 2
    assert f"{name} is not on this machine" in message
    assert "bundled model, storyteller" in message
    assert seconds < 2


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("gpt2", "openai-community/gpt2"),
        ("GPT2", "openai-community/gpt2"),
        ("gpt2-medium", "openai-community/gpt2-medium"),
        ("gpt2-large", "openai-community/gpt2-large"),
        ("gpt2-xl", "openai-community/gpt2-xl"),
        ("openai-community/gpt2-xl", "openai-community/gpt2-xl"),
        ("1.5B", "openai-community/gpt2-xl"),
        ("345M", "openai-community/gpt2-medium"),
        ("distilgpt2", "distilbert/distilgpt2"),
    ],
)
def test_a_name_from_elsewhere_is_that_model_beside_a_directory_of_that_name(
    name, repository, folder, tmp_path, monkeypatch
):
    """`--model gpt2` beside the source found the Python package, and said it had no config.json."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    assert hub_name(name) == repository
    with pytest.raises(UserError, match=f"{name} is not on this machine"):
        resolve(name)
    shutil.copytree(folder, name, dirs_exist_ok=True)  # a model folder: the name means that
    assert resolve(name) == Path(name)
    assert hub_name(name) is None


def test_a_repository_that_is_not_there_is_said_to_be_so(hub, tmp_path):
    status, message, _ = resolve_elsewhere("user/other", tmp_path, hub)
    assert status == 2
    assert "no public repository user/other" in message
    assert "hf auth login" in message


def test_a_repository_without_a_model_is_said_to_be_none(hub, folder, tmp_path):
    aside = tmp_path / "config.json"
    shutil.move(folder / "config.json", aside)
    try:
        status, message, _ = resolve_elsewhere("user/toy", tmp_path / "cache", hub)
    finally:
        shutil.move(aside, folder / "config.json")
    assert status == 2
    assert "no config.json" in message


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 2000,
        "a\0b",
        "nope",
        "a/b/c",
        "../x",
        "/etc",
        "a--b/c",
        "-a/b",
        "C:\\model",
        ".",
        "~",
    ],
)
def test_a_name_that_can_be_nothing_is_refused_at_once(name):
    started = time.perf_counter()
    with pytest.raises(UserError):
        resolve(name)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("name", [None, 3, ["124M"], True])
def test_a_name_must_be_a_text(name):
    with pytest.raises(UserError, match="short text"):
        find_local(name)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("Using SOCKS proxy, but the 'socksio' package"), "pip install socksio"),
        (ValueError("Unknown scheme for proxy URL"), "a proxy of an unknown kind"),
        (PermissionError(13, "Permission denied", "/.cache"), "Set HF_HOME to a folder"),
        (OSError(30, "Read-only file system", "/.cache"), "Read-only file system.*Set HF_HOME"),
    ],
)
def test_what_this_machine_lacks_for_a_download_is_said(error, message):
    """A cache that cannot be written was called a lost connection, with the cache's path."""
    with pytest.raises(UserError, match=message) as told, translate_hub_errors("user/toy"):
        raise error
    assert "/.cache" not in str(told.value)


def test_a_proxy_without_its_library_is_not_gone_around(hub, folder, monkeypatch):
    """The real client, which reaches the real server otherwise."""
    script = "from gpt2.__main__ import main; raise SystemExit(main())"
    environment = os.environ | {
        "all_proxy": "socks5://127.0.0.1:9", "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "none"),
    }  # fmt: skip
    source = f"import sys; sys.modules['socksio'] = None; {script}"
    words = [sys.executable, "-c", source, "generate", "x", "--model", "user/toy"]
    found = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert found.returncode == 2
    assert "pip install socksio" in found.stderr
    assert len(found.stderr.splitlines()) == 1


PICKLE = "a pickle file, which can run code when it is opened, so it is not read here"


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        (["ckpt.pt"], "ckpt.pt", PICKLE),
        (["ckpt.pt"], ".", f"no config.json, only ckpt.pt, a checkpoint of PyTorch .*{PICKLE}"),
        (["pytorch_model.bin"], "pytorch_model.bin", PICKLE),
        (["model.PTH"], "model.PTH", PICKLE),
        (["hparams.json", "model.ckpt.index"], ".", "OpenAI's release. Convert it: python -m gpt2"),
        (["adapter_config.json"], ".", "an adapter .LoRA. of another model"),
        (["model/config.json", "state.json"], ".", "further in. Give model"),
        (["my.zip"], "my.zip", "an archive. Unpack it"),
        (["my.gguf"], "my.gguf", "a model for another program"),
        (["config.json", "model.safetensors"], "model.safetensors", "Give its folder"),
        (["notes.txt"], "notes.txt", "is a file. A model is a folder with config.json"),
        ([], ".", "it has no config.json. A model is a folder with"),
    ],
)
def test_what_is_given_for_a_model_folder_is_called_what_it_is(
    files, name, message, tmp_path, monkeypatch
):
    """nanoGPT's users give its ckpt.pt, were told that there is no such model, and believed it."""
    monkeypatch.chdir(tmp_path)
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(UserError, match=message):
        resolve(name)


def test_a_run_folder_says_where_its_model_is(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "config.json").write_text('{"train": {}}')
    with pytest.raises(UserError, match=f"The model may be {tmp_path}/model"):
        load_model(resolve(str(tmp_path)))
