"""Push and pull with the real client against a Hub in miniature, over real HTTP."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from gpt2.__main__ import main
from gpt2.errors import UserError
from gpt2.folder import load_model, save_model
from gpt2.hub.transfer import RepositoryExists, files_to_push, pull, push
from gpt2.model_card import CardFacts, write_card
from gpt2.tokenizer import BytePairTokenizer, byte_characters
from tests.support.hub_server import Fault, Repository, running_hub

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_canary_of_ann_5fd1a0"  # must be found nowhere afterwards
BOB = "hf_canary_of_bob_77c2e9"
MODEL_FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "characters.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The Hub, with the users ann and bob; the client in this process talks to it."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # one protocol, the Hub's oldest
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with running_hub(users={TOKEN: "ann", BOB: "bob"}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def folder(make_model, characters, tmp_path):
    save_model(tmp_path / "model", make_model(), characters)
    return tmp_path / "model"


@pytest.fixture
def byte_pairs():
    return BytePairTokenizer({token: i for i, token in enumerate(byte_characters())}, [])


def logits(folder: Path) -> torch.Tensor:
    model, _ = load_model(folder, device="cpu")
    with torch.no_grad():
        return model(torch.arange(10)[None])


# Push


def test_a_push_makes_a_private_repository_with_exactly_the_models_files(hub, folder):
    (folder / "notes.txt").write_text("mine alone")
    (folder / "optimizer.pt").write_bytes(b"x")
    (folder / ".secret").write_text("x")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "config.json").write_text("{}")
    assert push(folder, "ann/toy", TOKEN) == f"{hub.url}/ann/toy"
    repository = hub.repositories["ann/toy"]
    assert repository.private
    assert set(repository.files) == MODEL_FILES | {".gitattributes"}
    for name in MODEL_FILES:
        assert repository.files[name] == (folder / name).read_bytes()
    assert len(repository.commits) == 2  # the empty one, and one with all files


def test_a_push_is_public_when_told(hub, folder):
    push(folder, "ann/toy", TOKEN, private=False)
    assert not hub.repositories["ann/toy"].private


@pytest.mark.parametrize("private", [None, 0, ""])
def test_a_push_never_leaves_the_visibility_to_the_hub(private, hub, folder):
    """The client takes None for "the default", and that is public; here only False says so."""
    push(folder, "ann/toy", TOKEN, private=private)
    assert hub.repositories["ann/toy"].private


def test_a_folder_without_a_card_gets_one_and_a_card_is_kept(hub, folder):
    push(folder, "ann/toy", TOKEN)
    assert b"# toy" in hub.repositories["ann/toy"].files["README.md"]
    write_card(folder, CardFacts(title="My own words"))
    push(folder, "ann/other", TOKEN)
    assert b"# My own words" in hub.repositories["ann/other"].files["README.md"]


def test_a_repository_with_files_is_not_overwritten_unless_told(hub, folder, make_model):
    push(folder, "ann/toy", TOKEN)
    before = dict(hub.repositories["ann/toy"].files)
    save_model(folder, make_model(seed=1), load_model(folder)[1])
    with pytest.raises(RepositoryExists, match="ann/toy exists already"):
        push(folder, "ann/toy", TOKEN)
    assert hub.repositories["ann/toy"].files == before
    push(folder, "ann/toy", TOKEN, overwrite=True)
    after = hub.repositories["ann/toy"].files
    assert after["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert after["model.safetensors"] != before["model.safetensors"]


def test_an_empty_repository_that_all_can_read_is_not_taken_for_a_private_one(hub, folder):
    hub.repositories["ann/toy"] = Repository(private=False)
    with pytest.raises(RepositoryExists, match="exists already, is public and is empty"):
        push(folder, "ann/toy", TOKEN)
    assert set(hub.repositories["ann/toy"].files) == {".gitattributes"}
    push(folder, "ann/toy", TOKEN, private=False)
    assert set(hub.repositories["ann/toy"].files) >= MODEL_FILES


def test_pushing_the_same_again_makes_no_commit(hub, folder):
    push(folder, "ann/toy", TOKEN)
    commits = set(hub.repositories["ann/toy"].commits)
    hub.requests.clear()
    assert push(folder, "ann/toy", TOKEN, overwrite=True) == f"{hub.url}/ann/toy"
    assert set(hub.repositories["ann/toy"].commits) == commits
    assert not [request for request in hub.requests if "/commit/" in request or "PUT" in request]


def test_another_kind_of_model_leaves_no_file_of_the_old_one(
    hub, folder, make_model, byte_pairs, tmp_path
):
    """characters.json beside merges.txt would be read in its place; so would others' weights."""
    push(folder, "ann/toy", TOKEN)
    repository = hub.repositories["ann/toy"]
    extra = {"tokenizer.json": b"{}", "pytorch_model.bin": b"x", "notes.txt": b"kept"}
    repository.commit("main", {**repository.files, **extra})
    save_model(tmp_path / "pairs", make_model(vocab_size=256), byte_pairs)
    push(tmp_path / "pairs", "ann/toy", TOKEN, overwrite=True)
    expected = {path.name for path in (tmp_path / "pairs").iterdir()}
    assert set(repository.files) == expected | {".gitattributes", "notes.txt"}
    assert "characters.json" not in expected


def test_a_push_that_broke_off_is_taken_up_without_a_question(hub, folder):
    hub.faults.append(Fault(r"PUT /lfs", 403, message="no"))
    with pytest.raises(UserError):
        push(folder, "ann/toy", TOKEN)
    assert set(hub.repositories["ann/toy"].files) == {".gitattributes"}
    hub.faults.clear()
    push(folder, "ann/toy", TOKEN)
    assert set(hub.repositories["ann/toy"].files) >= MODEL_FILES


def test_a_revision_is_a_branch_and_main_stays(hub, folder):
    url = push(folder, "ann/toy", TOKEN, revision="half")
    assert url == f"{hub.url}/ann/toy/tree/half"
    repository = hub.repositories["ann/toy"]
    assert set(repository.files) == {".gitattributes"}
    assert set(repository.at("half")[1]) == MODEL_FILES | {".gitattributes"}


def test_a_pull_request_proposes_to_anyone_and_changes_nothing(hub, folder):
    hub.repositories["bob/model"] = Repository()
    url = push(folder, "bob/model", TOKEN, pull_request=True)
    assert url == f"{hub.url}/bob/model/discussions/1"
    repository = hub.repositories["bob/model"]
    assert set(repository.files) == {".gitattributes"}
    assert set(repository.at("refs/pr/1")[1]) == MODEL_FILES | {".gitattributes"}


def test_an_index_beside_whole_weights_stays_here(folder):
    (folder / "model.safetensors.index.json").write_text("{}")
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")
    write_card(folder, CardFacts(title="x"))
    assert set(files_to_push(folder)) == MODEL_FILES


# Pull


def test_what_was_pushed_and_pulled_gives_the_same_logits(hub, folder, tmp_path):
    push(folder, "ann/toy", TOKEN)
    pulled = pull("ann/toy", tmp_path / "pulled", TOKEN)
    assert {path.name for path in pulled.iterdir()} == MODEL_FILES
    for name in MODEL_FILES:
        assert (pulled / name).read_bytes() == (folder / name).read_bytes()
    assert torch.equal(logits(pulled), logits(folder))
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_pull_of_a_revision(hub, folder, tmp_path, make_model, characters):
    push(folder, "ann/toy", TOKEN)
    save_model(tmp_path / "second", make_model(seed=5), characters)
    push(tmp_path / "second", "ann/toy", TOKEN, revision="second", overwrite=True)
    commit = hub.repositories["ann/toy"].branches["second"]
    for revision in ("second", commit):
        pulled = pull("ann/toy", tmp_path / f"at-{revision}", TOKEN, revision)
        assert torch.equal(logits(pulled), logits(tmp_path / "second"))
    pulled = pull("ann/toy", tmp_path / "first", TOKEN)
    assert torch.equal(logits(pulled), logits(folder))


def test_a_repository_with_tokenizer_json_alone_is_pulled_with_its_added_tokens(
    hub, make_model, byte_pairs, tmp_path
):
    """So transformers 5 writes them; it was not even downloaded."""
    save_model(tmp_path / "new", make_model(vocab_size=260), byte_pairs)
    described = json.loads((tmp_path / "new" / "tokenizer.json").read_text(encoding="utf-8"))
    described["added_tokens"].append({"id": 256, "content": "<s1>", "special": True})
    (tmp_path / "new" / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "new" / name).unlink()
    push(tmp_path / "new", "ann/toy", TOKEN)
    _, tokenizer = load_model(pull("ann/toy", tmp_path / "pulled", TOKEN))
    assert tokenizer.encode("<s1>!") == [256, 0]


def test_a_public_repository_needs_no_token(hub, folder, tmp_path):
    push(folder, "ann/toy", TOKEN, private=False)
    assert torch.equal(logits(pull("ann/toy", tmp_path / "pulled")), logits(folder))


def test_a_folder_that_holds_something_is_not_overwritten(hub, folder, tmp_path):
    push(folder, "ann/toy", TOKEN)
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "mine.txt").write_text("mine")
    hub.requests.clear()
    with pytest.raises(UserError, match="exists already and is not overwritten"):
        pull("ann/toy", occupied, TOKEN)
    assert hub.requests == []
    (occupied / "mine.txt").unlink()
    assert load_model(pull("ann/toy", occupied, TOKEN))  # an empty one is as good as none


def test_a_pull_that_broke_off_goes_on_where_it_was(hub, folder, tmp_path):
    push(folder, "ann/toy", TOKEN)
    hub.faults.append(Fault(r"GET .*model\.safetensors", 403, message="later"))
    with pytest.raises(UserError):
        pull("ann/toy", tmp_path / "pulled", TOKEN)
    assert not (tmp_path / "pulled").exists()
    hub.faults.clear()
    hub.requests.clear()
    assert torch.equal(logits(pull("ann/toy", tmp_path / "pulled", TOKEN)), logits(folder))
    assert "GET /ann/toy/resolve" not in "".join(r for r in hub.requests if "config" in r)


# Failures, each in plain words


def message_of(action) -> str:
    with pytest.raises(UserError) as refused:
        action()
    text = str(refused.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 400
    assert "Traceback" not in text
    assert TOKEN not in text
    return text


@pytest.mark.parametrize("token", [None, "", "  ", False])
def test_without_a_token_nothing_is_asked(token, hub, folder):
    assert "needs a token" in message_of(lambda: push(folder, "ann/toy", token))
    assert hub.requests == []


FAILURES = {
    "a wrong token": ("push", "ann/toy", [], "hf_wrong", "does not accept the token"),
    "another's name": ("push", "bob/toy", [], TOKEN, "not allowed"),
    "no such repository": ("pull", "ann/none", [], TOKEN, "no public repository ann/none"),
    "not logged in": ("pull", "ann/private", [], None, "hf auth login"),
    "gated": ("pull", "bob/gated", [], TOKEN, "bob/gated is gated: accept its terms"),
    "disabled": ("pull", "bob/disabled", [], TOKEN, "has been disabled"),
    "no such revision": ("pull at nowhere", "bob/model", [], TOKEN, "no such revision"),
    "not a model": ("pull", "bob/empty", [], TOKEN, "no config.json: it is not a model"),
    "only pickled weights": ("pull", "bob/pickle", [], TOKEN, "needs model.safetensors"),
    "proposed to nothing": ("propose", "bob/none", [], TOKEN, "no public repository bob/none"),
    "the Hub is broken": (
        "push", "ann/toy", [Fault("POST /api/repos", 503)], TOKEN, "itself has a problem",
    ),
    "the Hub is broken, pulling": (
        "pull", "bob/model", [Fault("HEAD ", 500)], TOKEN, "itself has a problem",
    ),
    "too many requests": (
        "push", "ann/toy", [Fault("POST /api/repos", 429)], TOKEN, "too many requests",
    ),
    "changed meanwhile": (
        "push", "ann/toy", [Fault("POST .*/commit/", 412)], TOKEN, "changed by someone else",
    ),
    "a token for reading only": (
        "push", "ann/toy", [Fault("POST /api/repos", 403)], TOKEN, '"write" permission',
    ),
    "a quota": (
        "push", "ann/toy", [Fault("POST .*/commit/", 413, message="too big")], TOKEN, "413",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_told_in_plain_words(name, hub, folder, tmp_path):
    sound = {path.name: path.read_bytes() for path in folder.iterdir()}
    pickled = {**sound, "pytorch_model.bin": b"x"}
    del pickled["model.safetensors"]
    for repository, settings, files in [
        ("ann/private", {"private": True}, sound),
        ("bob/gated", {"gated": True}, sound),
        ("bob/disabled", {"disabled": True}, sound),
        ("bob/model", {}, sound),
        ("bob/empty", {}, {"README.md": b"nothing"}),
        ("bob/pickle", {}, pickled),
    ]:
        hub.repositories[repository] = Repository(**settings)
        hub.repositories[repository].commit("main", files)
    action, repo_id, faults, token, expected = FAILURES[name]
    hub.faults += faults

    def act():
        if action == "pull":
            pull(repo_id, tmp_path / "pulled", token)
        elif action == "pull at nowhere":
            pull(repo_id, tmp_path / "pulled", token, revision="nowhere")
        else:
            push(folder, repo_id, token, pull_request=action == "propose")

    assert expected in message_of(act)
    assert not (tmp_path / "pulled").exists()
    assert not list(tmp_path.glob(".*"))


def test_offline_is_said_at_once(hub, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for action in (
        lambda: push(folder, "ann/toy", TOKEN),
        lambda: pull("ann/toy", tmp_path / "pulled", TOKEN),
    ):
        assert "The Hub cannot be reached" in message_of(action)


def test_offline_by_setting_is_said_too(hub, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "cannot be reached" in message_of(lambda: push(folder, "ann/toy", TOKEN))
    assert "cannot be reached" in message_of(lambda: pull("ann/toy", tmp_path / "p", TOKEN))
    assert hub.requests == []


def test_a_hub_that_takes_the_call_and_says_nothing_is_given_up(hub, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("gpt2.hub.resolve.PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "cannot be reached" in message_of(lambda: push(folder, "ann/toy", TOKEN))
        assert "cannot be reached" in message_of(lambda: pull("ann/toy", tmp_path / "p", TOKEN))


@pytest.mark.parametrize(
    "repo_id",
    ["", "toy", "a/b/c", "../toy", "ann/..", "ann/to--y", "a n/toy", "-ann/toy", "ann/", "/toy",
     "ann/toy\n", "https://huggingface.co/ann/toy", "ann/" + "x" * 200, None, 7],
)  # fmt: skip
def test_a_name_that_can_be_no_repository_is_refused_unasked(repo_id, hub, folder, tmp_path):
    for action in (
        lambda: push(folder, repo_id, TOKEN),
        lambda: pull(repo_id, tmp_path / "pulled", TOKEN),
    ):
        assert "not a repository name" in message_of(action)
    assert hub.requests == []


@pytest.mark.parametrize("revision", ["", "..", "a/../b", "-x", "a b", "x" * 300, "a\nb"])
def test_a_revision_that_can_be_none_is_refused_unasked(revision, hub, folder):
    message = message_of(lambda: push(folder, "ann/toy", TOKEN, revision=revision))
    assert "not a branch" in message
    assert hub.requests == []


def test_a_pull_request_is_always_to_main(hub, folder):
    message = message_of(lambda: push(folder, "ann/toy", TOKEN, revision="x", pull_request=True))
    assert "leave the revision out" in message


def test_a_card_that_the_hub_refuses_is_told_with_its_reason(hub, folder):
    hub.card_errors.append('"license" must be one of these')
    message = message_of(lambda: push(folder, "ann/toy", TOKEN))
    assert "README.md" in message


def test_a_folder_that_nobody_can_open_is_not_published(hub, folder):
    (folder / "model.safetensors").write_bytes(b"broken")
    assert "not a readable safetensors file" in message_of(lambda: push(folder, "ann/toy", TOKEN))
    assert hub.requests == []


PULL_ON_A_FULL_DISK = """
import resource, sys
from gpt2.errors import UserError
from gpt2.hub.transfer import pull
import huggingface_hub, safetensors.torch
# Writing beyond this many bytes of a file fails from here on, as it does on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    pull("ann/toy", sys.argv[1])
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_is_told(hub, folder, tmp_path):
    push(folder, "ann/toy", TOKEN, private=False)
    command = [sys.executable, "-c", PULL_ON_A_FULL_DISK, str(tmp_path / "pulled")]
    done = subprocess.run(
        command, env=environment(hub, tmp_path), capture_output=True, text=True, timeout=200
    )
    assert "disk" in done.stdout, done.stderr
    assert "full" in done.stdout
    assert not (tmp_path / "pulled").exists()


# The command line, in a home of its own


def environment(hub, home: Path, token: str | None = None) -> dict[str, str]:
    hidden = ("HF_", "TRANSFORMERS_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    named = {"HOME": str(home), "HF_ENDPOINT": hub.url, "PYTHONPATH": str(ROOT)}
    named |= {"HF_HUB_DISABLE_XET": "1"}
    return kept | named | ({"HF_TOKEN": token} if token else {})


def call(hub, home: Path, *arguments: object, token: str | None = TOKEN, **settings):
    command = [sys.executable, "-m", "gpt2", *map(str, arguments)]
    return subprocess.run(
        command,
        env=environment(hub, home, token) | settings.pop("extra", {}),
        capture_output=True,
        text=True,
        timeout=200,
        **({"stdin": subprocess.DEVNULL} | settings),
    )


def test_a_token_is_written_nowhere(hub, folder, tmp_path):
    """Push, push again, pull, fail, all chatty: then look at every byte that was written."""
    home = tmp_path / "home"
    home.mkdir()
    chatty = {"HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug"}
    runs = [
        call(hub, home, "push", folder, "ann/toy", extra=chatty),
        call(hub, home, "push", folder, "ann/toy", "--yes"),
        call(hub, home, "pull", "ann/toy", home / "pulled", extra=chatty),
        call(hub, home, "push", folder, "bob/toy", extra=chatty),
    ]
    assert [run.returncode for run in runs] == [0, 0, 0, 2], runs
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    for path in written:
        assert TOKEN.encode() not in path.read_bytes(), path
    for run in runs:
        assert TOKEN not in run.stdout + run.stderr
    stored = [*hub.blobs.values()]
    for repository in hub.repositories.values():
        stored += [content for files in repository.commits.values() for content in files.values()]
    assert not any(TOKEN.encode() in content for content in stored)


def test_the_commands(hub, folder, tmp_path, monkeypatch, capsys):
    """What each prints and how it ends, one after the other on one Hub."""
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal to ask on
    pulled, opened = tmp_path / "pulled", tmp_path / "open"
    for token, arguments, status, expected in [
        (TOKEN, ["push", folder, "ann/toy"], 0, f"{hub.url}/ann/toy\n"),
        (TOKEN, ["push", folder, "ann/toy"], 2, "Say --yes to replace its files"),
        (TOKEN, ["push", folder, "ann/toy", "--yes"], 0, f"{hub.url}/ann/toy\n"),
        (BOB, ["push", folder, "ann/open"], 2, "not allowed"),
        (
            TOKEN,
            ["push", folder, "ann/open", "--public", "--revision", "v1"],
            0,
            f"{hub.url}/ann/open/tree/v1\n",
        ),
        (BOB, ["push", folder, "ann/open", "--pull-request"], 0, "/ann/open/discussions/1\n"),
        (TOKEN, ["pull", "ann/toy", pulled], 0, f"{pulled}\n"),
        (TOKEN, ["pull", "ann/toy", pulled], 2, "exists already"),
        (None, ["pull", "ann/open", opened, "--revision", "v1"], 0, f"{opened}\n"),
        (None, ["pull", "ann/toy", tmp_path / "none"], 2, "hf auth login"),
        (None, ["push", folder, "ann/new"], 2, "needs a token"),
    ]:
        monkeypatch.setenv("HF_TOKEN", token or "")
        assert main([*map(str, arguments)]) == status, arguments
        printed = capsys.readouterr()
        if status == 0:
            assert printed.out.endswith(expected)
            assert len(printed.out.splitlines()) == 1
        else:
            assert printed.out == ""
            assert printed.err.startswith("error: ")
            assert expected in printed.err
            assert len(printed.err.splitlines()) == 1
    assert hub.repositories["ann/toy"].private
    assert not hub.repositories["ann/open"].private
    assert load_file(pulled / "model.safetensors")
    assert torch.equal(logits(opened), logits(folder))


def test_the_token_is_in_no_log(hub, folder, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    push(folder, "ann/toy", TOKEN)
    pull("ann/toy", tmp_path / "pulled", TOKEN)
    with pytest.raises(UserError):
        push(folder, "bob/toy", TOKEN)
    assert caplog.records
    assert TOKEN not in caplog.text
    assert not any(TOKEN in repr(record.__dict__) for record in caplog.records)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1), ("yes", 0)])
def test_on_a_terminal_an_existing_repository_is_asked_about(answer, status, hub, folder, tmp_path):
    import pty

    hub.repositories["ann/toy"] = Repository(private=True)
    hub.repositories["ann/toy"].commit("main", {"config.json": b"old"})
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    done = call(hub, tmp_path, "push", folder, "ann/toy", stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == status, done.stderr
    assert "ann/toy exists already, is private and has files. Replace its files?" in done.stderr
    assert (hub.repositories["ann/toy"].files["config.json"] == b"old") == (status == 1)
    assert ("Nothing was pushed" in done.stderr) == (status == 1)
