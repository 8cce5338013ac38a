"""A Space from this checkout, by the real client, on a Hub in miniature."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import SpaceCard, constants

from gpt2.__main__ import main
from gpt2.hub import space_watch
from gpt2.hub.space_files import MODEL_VARIABLE, space_card, space_files, space_requirements
from tests.support.hub_server import CUT, Fault, Repository, running_hub
from tests.support.space_hub import SpaceHub

ROOT = Path(__file__).resolve().parents[2]
TOKEN, READER, BOB = "hf_canary_of_ann_11", "hf_canary_reads_22", "hf_canary_of_bob_33"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(space_watch, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(space_watch, "NEWS_SECONDS", 0.2)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    users = {TOKEN: "ann", READER: "ann", BOB: "bob"}
    with running_hub(SpaceHub(users=users, readers={READER})) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def deploy(hub, call_here):
    """deploy(*arguments): status, stdout, stderr. No token may ever be in what is said."""

    def call(*arguments: str) -> tuple[int, str, str]:
        status, out, error = call_here(main, "deploy", *arguments)
        assert "hf_canary" not in out + error
        assert "Traceback" not in error
        return status, out, error

    return call


# What is uploaded


def test_a_deployment_makes_the_space_and_waits_for_its_page(hub, deploy):
    status, out, error = deploy("ann/demo", "--variable", "A=b", "--private")
    assert (status, out) == (0, f"{hub.url}/of/ann/demo\n"), error
    space = hub.spaces["ann/demo"]
    assert (space.sdk, space.hardware, space.variables) == ("gradio", "zero-a10g", {"A": "b"})
    assert hub.repositories["ann/demo"].private
    there = {**hub.repositories["ann/demo"].files}
    there.pop(".gitattributes", None)
    assert there == space_files()
    assert [line for line in error.splitlines() if re.match("created|building|app", line)] == [
        "created ann/demo on zero-a10g",
        "building",
        "app starting",
    ]
    assert "Done" in error, "the build's log"
    assert "\x1b" not in error, "nothing that a terminal would obey"


def test_every_binary_file_goes_by_lfs(hub, deploy):
    """The Hub refuses them in an ordinary commit, and what is above 10 MiB."""
    deploy("ann/demo")
    sent_by_lfs = set(hub.blobs.values())
    for path, content in space_files().items():
        if b"\0" in content or len(content) > 10 << 20:
            assert content in sent_by_lfs, path


def test_the_list_is_exactly_what_the_app_needs():
    paths = set(space_files())
    assert {"app.py", "README.md", "requirements.txt", "LICENSE"} <= paths
    assert "models/storyteller/model.safetensors" in paths
    tops = {path.partition("/")[0] for path in paths if "/" in path}
    assert tops == {"gpt2", "train", "service", "ui", "models"}
    assert not [path for path in paths if re.search(r"test|bench|^runs|\.png|pycache|/\.", path)]
    tracked = subprocess.run(
        ["git", "ls-files", "gpt2", "train", "service", "ui", "models"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    if tracked:  # a checkout; a downloaded archive has no git
        assert paths - {"app.py", "README.md", "requirements.txt", "LICENSE"} <= set(tracked)
        unsaid = {path for path in tracked if path not in paths}
        assert unsaid <= {"gpt2/vocabulary/README.md"}, "files that a Space would lack"


def test_the_app_starts_from_what_was_uploaded_and_from_nothing_else(tmp_path):
    """With a Space's variables, and offline."""
    for path, content in space_files().items():
        (tmp_path / "space" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "space" / path).write_bytes(content)
    source = (
        "import app, ui.page, service.worker, train.job, gpt2.int8_gate\n"
        "from gpt2.hub.resolve import STORYTELLER_FOLDER\n"
        "from gpt2.inference import load_for_inference\n"
        "model, tokenizer = load_for_inference('storyteller', 'cpu')\n"
        "assert gpt2.int8_gate.gate_loss(model, tokenizer) > 1\n"
        "assert app.parse_arguments([]).host == '0.0.0.0'\n"
        "assert app.parse_arguments([]).model == 'somebody/something'\n"
        "print(app.__file__)"
    )
    space = {"SPACE_ID": "ann/demo", "SYSTEM": "spaces", MODEL_VARIABLE: "somebody/something"}
    found = subprocess.run(
        [sys.executable, "-c", source],
        cwd=tmp_path / "space",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | space,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == str(tmp_path / "space" / "app.py")


def test_the_requirements_leave_out_what_a_space_brings_and_pin_the_rest():
    lines = space_requirements().splitlines()
    assert "torch==2.13.0" in lines, "no +cpu: ZeroGPU would not start"
    names = [re.split("[<>=]", line)[0] for line in lines]
    assert not {"gradio", "spaces", "huggingface-hub"} & set(names)
    assert all("==" in line for line in lines)
    plain = {
        line.partition("#")[0].split("=")[0].split(">")[0].strip()
        for line in (ROOT / "requirements.txt").read_text().splitlines()
    }
    assert set(names) == plain - {"gradio", "huggingface-hub"}


def test_the_front_matter_is_complete():
    card = SpaceCard((ROOT / "README.md").read_text(encoding="utf-8"))
    data = card.data.to_dict()
    pins = (ROOT / "constraints.txt").read_text()
    assert data["sdk"] == "gradio"
    assert f"gradio=={data['sdk_version']}" in pins
    assert data["python_version"] == "3.12"
    assert len(data["short_description"]) <= 60
    assert data["app_file"] == "app.py"
    assert data["hf_oauth"] is True
    assert data["hf_oauth_scopes"] == ["contribute-repos"], "and nothing more"
    assert data["license"] == "mit"
    assert re.fullmatch(r"\d+[mh]", data["startup_duration_timeout"])
    assert {"title", "emoji", "colorFrom", "colorTo", "models", "tags"} <= set(data)


def test_a_spaces_card_has_no_pictures_that_it_lacks_and_says_how_to_duplicate():
    text = space_card()
    front = yaml.safe_load(text.split("---")[1])
    assert front["hf_oauth"] is True
    assert "](assets/" not in text
    assert "Duplicate this Space" in text


# Again


def test_a_second_deployment_uploads_what_differs_and_says_so(hub, deploy):
    deploy("ann/demo")
    repository = hub.repositories["ann/demo"]
    before = len(repository.commits)
    status, _, error = deploy("ann/demo")
    assert (status, "no file has changed" in error) == (0, True)
    assert len(repository.commits) == before
    files = {name: content for name, content in repository.files.items() if name != "ui/page.py"}
    repository.branches.clear()
    repository.commit("main", files | {"gpt2/old.py": b"x", "app.py": b"x", "mine.txt": b"kept"})
    _, _, error = deploy("ann/demo")
    said = [line for line in error.splitlines() if re.match("new|changed|removed", line)]
    assert said == ["new ui/page.py", "changed app.py", "removed gpt2/old.py"]
    assert repository.files["mine.txt"] == b"kept"


def test_settings_change_only_where_they_differ(hub, deploy, monkeypatch):
    monkeypatch.setenv("HF_JOBS", "a secret value")
    hub.rules.subscribers.add("ann")
    deploy("ann/demo", "--variable", "A=b")
    hub.requests.clear()
    deploy("ann/demo", "--variable", "A=b")
    assert not [one for one in hub.requests if re.match("POST.*(variables|secrets|hardware)", one)]
    more = ("--variable", "A=c", "--secret", "HF_JOBS", "--hardware", "cpu-basic", "--private")
    _, _, error = deploy("ann/demo", *more)
    space = hub.spaces["ann/demo"]
    assert (space.variables["A"], space.secrets["HF_JOBS"]) == ("c", "a secret value")
    assert (space.hardware, hub.repositories["ann/demo"].private) == ("cpu-basic", True)
    assert "a secret value" not in error


def test_a_model_of_the_hub_is_a_variable_and_fetched_while_the_space_is_built(hub, deploy):
    hub.repositories["ann/toy"] = Repository(private=False)
    files = {"config.json": b"{}", "model.safetensors": b"x", "notes.txt": b"x"}
    hub.repositories["ann/toy"].commit("main", files)
    for given in (("--model", "ann/toy"), ()):  # a second deployment keeps it
        deploy("ann/demo", *given)
        front = yaml.safe_load(hub.repositories["ann/demo"].files["README.md"].split(b"---")[1])
        assert front["preload_from_hub"] == ["ann/toy config.json,model.safetensors"]
        assert hub.spaces["ann/demo"].variables == {MODEL_VARIABLE: "ann/toy"}


def test_a_bucket_is_made_private_and_mounted_where_the_program_looks(hub, deploy):
    for _ in range(2):
        assert deploy("ann/demo", "--bucket", "runs")[0] == 0
    assert hub.buckets == {"ann/runs": "private"}
    kept = {"type": "model", "source": "a/b", "mountPath": "/models"}
    hub.spaces["ann/demo"].volumes.append(kept)
    assert sum(one.startswith("PUT /api/spaces/ann/demo/volumes") for one in hub.requests) == 1
    deploy("ann/demo", "--bucket", "others")
    assert kept in hub.spaces["ann/demo"].volumes
    mounted = {one["mountPath"]: one["source"] for one in hub.spaces["ann/demo"].volumes}
    assert mounted == {"/models": "a/b", "/bucket": "ann/others"}


def test_a_dry_run_asks_nobody(hub, deploy):
    status, out, error = deploy("ann/demo", "--dry-run")
    assert (status, hub.requests) == (0, [])
    assert [line.split()[1] for line in out.splitlines()] == list(space_files())
    assert "nothing was uploaded" in error


def test_the_hubs_client_is_all_that_it_needs(tmp_path):
    """As the README's GitHub Action has it: no PyTorch, no NumPy, no gradio."""
    source = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'gradio', 'safetensors', 'tiktoken'):\n"
        "    sys.modules[name] = None\n"
        "from gpt2.__main__ import main\n"
        "sys.exit(main(['deploy', 'user/space', '--dry-run']))"
    )
    found = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "app.py" in found.stdout


def test_the_command_by_itself(hub, tmp_path):
    """A process of its own, as people call it."""
    there = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    found = subprocess.run(
        [sys.executable, "-m", "gpt2", "deploy", "demo", "--wait", "0"],
        cwd=ROOT,
        env=os.environ | there | {"HF_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (found.returncode, found.stdout) == (0, f"{hub.url}/spaces/ann/demo\n"), found.stderr


# What goes wrong: one sentence that says what to do


def fails(called: tuple[int, str, str], words: str) -> str:
    status, out, error = called
    assert (status, out) == (2, ""), error
    last = error.splitlines()[-1]
    assert last.startswith("error: ")
    assert re.search(words, last), last
    return last


def test_without_a_token(deploy, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    fails(deploy("ann/demo"), "needs a token.*hf auth login")


def test_with_a_token_that_nobody_knows(deploy, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    fails(deploy("ann/demo"), "token")


def test_with_a_token_that_only_reads(deploy, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READER)
    fails(deploy("ann/demo"), 'can only read.*"write"')


@pytest.mark.parametrize("name", ["a b/c", "ann/de--mo", "../x", "ann/demo/x"])
def test_a_name_that_cannot_be(deploy, name):
    fails(deploy(name), "not a repository name")


def test_somebody_elses_name(hub, deploy):
    fails(deploy("bob/demo"), "would belong to bob.*ann/demo")


def test_another_program_is_not_replaced_unasked(hub, deploy):
    hub.put("ann/other", {"app.py": b"mine", "README.md": b"x"})
    fails(deploy("ann/other"), "holds another program.*--yes")
    assert hub.repositories["ann/other"].files["app.py"] == b"mine"
    assert deploy("ann/other", "--yes")[0] == 0


def test_hardware_that_costs(deploy):
    fails(deploy("ann/demo", "--hardware", "cpu-basic"), "--hardware zero-a10g.*PRO")


def test_hardware_that_is_not(deploy, hub):
    fails(deploy("ann/demo", "--hardware", "abacus"), "no hardware 'abacus'. It has .*future-x9")
    hub.rules.subscribers.add("ann")
    assert deploy("ann/demo", "--hardware", "future-x9")[0] == 0


def test_a_third_space_on_zero_gpu(deploy):
    assert deploy("one")[0] == deploy("two")[0] == 0
    fails(deploy("three"), "free account has two.*delete one")


def test_a_line_that_breaks_in_the_upload_is_taken_up_by_the_next_call(hub, deploy):
    fault = Fault("POST /api/spaces/ann/demo/commit/.*", CUT)
    hub.faults.append(fault)
    assert deploy("ann/demo")[0] == 2
    hub.faults.remove(fault)
    hub.requests.clear()
    status, _, error = deploy("ann/demo")
    assert (status, "created" in error) == (0, False)
    assert not [one for one in hub.requests if one.startswith("PUT /lfs")], "it was there"


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (["BUILDING", "BUILD_ERROR"], "could not be built.*then deploy again"),
        (["APP_STARTING", "RUNTIME_ERROR"], "was built but ended"),
        (["BUILDING", "CONFIG_ERROR"], "front matter"),
        (["PAUSED"], "it is paused.*settings"),
    ],
)
def test_a_space_that_does_not_run(hub, deploy, stages, words):
    hub.rules.builds, hub.rules.message = stages, "no space left"
    hub.rules.build_log = hub.rules.run_log = [f"line {i}" for i in range(50)]
    _, _, error = called = deploy("ann/demo")
    assert "no space left" in fails((called[0], "", error), words)
    if "ERROR" in stages[-1] and "CONFIG" not in stages[-1]:
        assert "  line 49" in error


def test_a_build_that_takes_too_long(hub, deploy):
    hub.rules.builds = ["BUILDING"]
    fails(deploy("ann/demo", "--wait", "0.005"), "does not answer yet: it is building.*--wait")


def test_a_page_that_is_not_well_is_waited_for(hub, deploy):
    hub.rules.page = {"status": "starting"}
    fails(deploy("ann/demo", "--wait", "0.005"), "does not answer yet")


def test_offline(deploy, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    fails(deploy("ann/demo"), "(?i)reach|connection|offline")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--variable", "A"), "NAME=VALUE"),
        (("--secret", "A=b"), "by its name alone"),
        (("--secret", "NO_SUCH_SECRET"), "no NO_SUCH_SECRET in the environment"),
        (("--wait", "soon"), "minutes"),
        (("--model", "./folder"), "push a model of your own"),
        (("--model", "ann/nothing"), "no public model"),
    ],
)
def test_flags_that_cannot_be(deploy, flags, words):
    status, out, error = deploy("ann/demo", *flags)
    assert (status, out) == (2, "")
    assert re.search(words, error)
