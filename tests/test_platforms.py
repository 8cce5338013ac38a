"""Systems that lack what POSIX has, and users that their system does not know.

Nobody could try Windows here: a Python without those parts stands in for it.
"""

from __future__ import annotations

import ast
import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpt2 import system
from gpt2.machine import machine_memory
from tests.test_layers import ROOT, SOURCES

WITHOUT_POSIX = """
import os, sys
import filelock, psutil  # made for the system that they find
sys.modules["fcntl"] = None
for name in ("sysconf", "nice", "getuid", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
"""
A_STRANGER = """
import os, sys
sys.modules["pwd"] = None
os.environ.pop("HOME", None)
"""
WRITE = """
from gpt2.__main__ import main
assert main(["generate", "It", "--model", "{base}", "--max-new-tokens", "3"]) == 0
"""
TRAIN = """
from train.__main__ import main as train
words = "run --data {text} --model {base} --out {out} --steps 1 --batch-size 1 --block-size 16"
assert train(words.split()) == 0
"""
PAGE = """
os.environ["all_proxy"] = "socks5://127.0.0.1:9"  # whose library is not there
from pathlib import Path
import app
from ui.models import Models
from ui.page import build_page
from service.limits import Limits
runs = app.open_runs(None, Path("{out}"), Limits())
models = Models("{base}", runs=runs)
page = build_page(models, models.start(), runs, Limits())
import json
open("{text}", "w").write(json.dumps(page.get_config_file(), default=str))
"""


def run(source: str, folder: Path, base: Path) -> subprocess.CompletedProcess:
    (folder / "text").write_text("It is a truth universally acknowledged. " * 50)
    source = source.format(base=base, text=folder / "text", out=folder / "out")
    return subprocess.run(
        [sys.executable, "-c", source],
        env=os.environ | {"PYTHONPATH": str(ROOT), "USERNAME": "somebody"},  # as Windows has it
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("missing", [WITHOUT_POSIX, A_STRANGER], ids=["posix", "home"])
def test_generating_and_training_need_neither_posix_nor_a_home(missing, tmp_path, base):
    found = run(missing + WRITE + TRAIN, tmp_path, base)
    assert found.returncode == 0, found.stderr
    assert "Traceback" not in found.stderr
    assert (tmp_path / "out" / "model" / "model.safetensors").is_file()
    assert not (tmp_path / "~").exists()


def test_the_page_without_posix_says_that_fine_tuning_is_off(tmp_path, base):
    found = run(WITHOUT_POSIX + PAGE, tmp_path, base)
    assert found.returncode == 0, found.stderr
    (line,) = found.stderr.splitlines()
    assert line.startswith("note: the page starts without fine-tuning. Fine-tuning on the page ")
    shown = json.loads((tmp_path / "text").read_text())["components"]
    words = [str(one["props"].get("value")) for one in shown]
    assert sum("Fine-tuning on the page needs Linux or macOS" in word for word in words) == 1
    assert "generate" in [one["props"].get("elem_id") for one in shown], "the Write tab is there"


def test_a_user_without_a_home_is_told_where_downloads_could_go(tmp_path, base):
    """They went into a folder "~" where the command was called, or ended in a RuntimeError."""
    source = """
for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
from gpt2.__main__ import main
assert main(["generate", "x", "--model", "no-body/never"]) == 2
from gpt2.command_line import run_command
from gpt2.openai.release import fetch_release
assert run_command(lambda: fetch_release("124M") and None) == 2
"""
    found = run(A_STRANGER + source, tmp_path, base)
    assert found.returncode == 0, found.stderr
    first, second = found.stderr.splitlines()
    assert "Set HF_HOME to a folder" in first
    assert "Set XDG_CACHE_HOME to a folder" in second
    assert not (tmp_path / "~").exists()


def names_of_posix(source: str) -> set[str]:
    """What Windows does not have, as a module's text names it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    kinds = {"fcntl", "pwd", "grp", "resource", "termios", "pty"}
    return found & (kinds | {"os.sysconf", "os.nice", "os.getuid", "os.fork", "os.mkfifo"})


def test_one_module_alone_asks_for_posix():
    found = {path: names_of_posix(path.read_text(encoding="utf-8")) for _, path in SOURCES}
    assert {path: names for path, names in found.items() if names}.keys() == {
        ROOT / "gpt2" / "system.py"
    }


def test_the_memory_of_a_machine_without_sysconf(monkeypatch):
    known = system.physical_memory()
    assert known == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.delattr(os, "sysconf")
    assert 0 < machine_memory() <= system.physical_memory() == 4e9

    def fill(status) -> int:
        assert status._obj[0] == 64, "its own size"
        status._obj[1] = 16 << 30
        return 1

    kernel = SimpleNamespace(GlobalMemoryStatusEx=fill)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    assert system.physical_memory() == 16 << 30
