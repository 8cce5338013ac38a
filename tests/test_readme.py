"""The README is true: its tree, its commands, its figures' sources."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from gpt2.__main__ import build_parser as gpt2_parser
from train.__main__ import build_parser as train_parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tree() -> list[str]:
    """The paths of the README's tree, indented names joined to their folder."""
    block = next(part for part in README.split("```") if part.startswith("\napp.py "))
    paths, folder = [], ""
    for line in filter(None, block.splitlines()):
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name if name.endswith("/") else ""
        paths.append(folder + name if line.startswith(" ") else name)
    return paths


@pytest.mark.parametrize("path", tree())
def test_what_the_tree_shows_is_there(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    "package", ["gpt2", "gpt2/formats", "gpt2/hub", "gpt2/openai", "gpt2/text", "train", "service"]
)
def test_the_tree_shows_every_module_that_holds_an_idea(package):
    """Faces, errors and command lines go without saying."""
    unsaid = {"__init__.py", "__main__.py", "errors.py", "command_line.py"}
    modules = {path.name for path in (ROOT / package).glob("*.py")} - unsaid
    shown = {Path(p) for p in tree()}
    assert modules == {p.name for p in shown if p.parent == Path(package) and p.suffix} - unsaid


def commands() -> list[str]:
    blocks = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
    lines = [line for language, text in blocks if not language for line in text.splitlines()]
    return [line for line in lines if line.startswith(("python -m", "pip", "torchrun"))]


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("python -m")])
def test_every_command_line_parses(command):
    words = shlex.split(command, comments=True)
    parser = {"gpt2": gpt2_parser, "train": train_parser}[words[2]]()
    assert parser.parse_args(words[3:])


def test_the_two_commands_stand_there_exactly_once():
    assert commands().count("pip install -r requirements.txt && python app.py") == 1
    tests = "pip install -r requirements-dev.txt && python tests/browser.py && pytest"
    assert commands().count(tests) == 1


def test_the_front_matter_is_what_a_space_needs():
    fields = dict(re.findall(r"^(\w+): (.+)$", README.split("---")[1], re.MULTILINE))
    assert fields["sdk"] == "gradio"
    assert fields["app_file"] == "app.py"
    assert fields["python_version"] == '"3.12"'
    assert len(fields["short_description"]) <= 60
    assert (ROOT / "requirements.txt").read_text().startswith("torch==2.13.0\n")


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_nothing_large_or_private_is_tracked():
    """The bundled model is the only large file; training texts and environments stay out."""
    listed = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:  # an unpacked archive is no checkout
        paths = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
    else:
        paths = [line.split("\t")[1] for line in listed.stdout.splitlines()]
    for path in paths:
        size = (ROOT / path).stat().st_size if (ROOT / path).exists() else 0
        assert size < 1_000_000 or path.startswith("models/") or ".git" in path, path
