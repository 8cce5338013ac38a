"""The Dockerfile: the same files as a Space, nobody's rights, and a check of health that works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from gpt2.hub.space_files import space_files

ROOT = Path(__file__).parents[1]
STEPS = [
    tuple(line.split(maxsplit=1))
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]


def steps(kind: str) -> list[str]:
    return [rest for word, rest in STEPS if word == kind]


def test_it_copies_what_a_space_has():
    copied = {one.rstrip("/") for line in steps("COPY") for one in line.split()[:-1]}
    assert all((ROOT / one).exists() for one in copied)
    assert copied == {path.partition("/")[0] for path in space_files()} | {"constraints.txt"}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_it_runs_without_rights_and_keeps_its_runs_in_the_volume():
    words = [word for word, _ in STEPS]
    assert words.index("USER") < words.index("CMD")
    assert steps("USER") == ["writer"]
    command = json.loads(steps("CMD")[0])
    assert command[command.index("--runs") + 1].startswith(steps("VOLUME")[0])
    from app import parse_arguments

    assert parse_arguments(command[2:]).port == int(steps("EXPOSE")[0])


def test_its_versions_are_the_projects():
    (pinned,) = re.findall(r"torch==([\d.]+)\+cpu", " ".join(steps("RUN")))
    assert f"torch=={pinned}\n" in (ROOT / "requirements.txt").read_text()
    assert steps("FROM") == ["python:3.12-slim"]


def test_its_check_of_health_and_compose_agree():
    asked = json.loads(steps("HEALTHCHECK")[0].partition("CMD ")[2])
    assert "127.0.0.1:7860/health" in asked[2]
    compile(asked[2], "healthcheck", "exec")
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["gpt2"]
    assert service["volumes"] == [f"data:{steps('VOLUME')[0]}"]
    assert service["ports"] == ["127.0.0.1:7860:7860"], "for this machine alone"
