"""Imports go one way, gpt2 <- train <- service <- ui <- app; heavy libraries stay in their rooms.

The imports are read from the syntax trees, so that a lazy import inside a function counts too.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ["gpt2", "train", "service", "ui", "app"]  # each may import itself and those before it


class Import(NamedTuple):
    module: str  # the first part of its name: "gradio" of `from gradio.themes import Base`
    lazy: bool  # inside a function
    line: int


def imports_of(source: str) -> list[Import]:
    """Every import statement, and importlib.import_module or __import__ of a literal name."""
    tree = ast.parse(source)
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if node.level == 0 else []
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else None
            called = node.func.id if isinstance(node.func, ast.Name) else called
            names = [node.args[0].value] if called in ("import_module", "__import__") else []
        else:
            continue
        found += [Import(name.split(".")[0], id(node) in lazy, node.lineno) for name in names]
    return found


def files_of(layer: str) -> list[Path]:
    if layer == "app":
        return [path for path in [ROOT / "app.py"] if path.is_file()]
    return sorted((ROOT / layer).rglob("*.py"))


SOURCES = [(layer, path) for layer in LAYERS for path in files_of(layer)]
EACH_SOURCE = pytest.mark.parametrize(
    ("layer", "path"), SOURCES, ids=[str(path.relative_to(ROOT)) for _, path in SOURCES]
)


@EACH_SOURCE
def test_a_room_imports_only_itself_and_the_rooms_below(layer, path):
    above = LAYERS[LAYERS.index(layer) + 1 :]
    wrong = [found for found in imports_of(path.read_text()) if found.module in above]
    assert not wrong, f"{path} must not know {wrong}"


@EACH_SOURCE
def test_only_the_page_imports_gradio(layer, path):
    names = {found.module for found in imports_of(path.read_text())}
    assert layer in ("ui", "app") or not names & {"gradio", "gradio_client"}


@EACH_SOURCE
def test_only_the_checkpoint_reader_imports_tensorflow_and_only_when_it_is_called(layer, path):
    found = [found for found in imports_of(path.read_text()) if found.module == "tensorflow"]
    if path == ROOT / "gpt2" / "openai" / "checkpoint.py":
        assert all(one.lazy for one in found)
    else:
        assert not found


def test_the_model_needs_nothing_but_torch_and_the_standard_library():
    names = {found.module for found in imports_of((ROOT / "gpt2" / "model.py").read_text())}
    assert names - set(sys.stdlib_module_names) == {"torch"}


@EACH_SOURCE
def test_only_one_module_makes_temporary_files(layer, path):
    """Uploads, pushes and downloads lay in four places, and three were never swept."""
    names = {found.module for found in imports_of(path.read_text(encoding="utf-8"))}
    assert "tempfile" not in names or path == ROOT / "gpt2" / "temporary.py"


def names_of(source: str) -> set[str]:
    """The public names that a module defines at its top."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return {name for name in found if not name.startswith("_")}


# What programs and commands have by convention: entry points, and the face of a command.
CONVENTIONS = {"main", "build_parser", "COMMANDS"}
COMMAND_FACE = {"HELP", "DESCRIPTION", "add_arguments", "run"}


def test_no_two_modules_define_the_same_public_name():
    """33 names stood for two things or more: `Checkpoint`, `Sample`, `STATES`, `show` ..."""
    homes: dict[str, list[Path]] = {}
    for _, path in SOURCES:
        faces = COMMAND_FACE if path.parent.name == "commands" else set()
        for name in names_of(path.read_text()) - CONVENTIONS - faces:
            homes.setdefault(name, []).append(path)
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def test_relative_imports_do_not_hide_a_room():
    """The rules above read absolute names; `from ..ui import x` would pass them unseen."""
    for _, path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.ImportFrom) or node.level == 0, f"{path}:{node.lineno}"


def test_the_reader_sees_every_form_of_import():
    """The checks above are worth what `imports_of` finds."""
    source = """
import a.b, c as d
from e.f import g
from . import not_this
def lazily():
    import h
    import importlib
    importlib.import_module("i.j")
class K:
    from l import m
if TYPE_CHECKING:
    import n
try:
    __import__("o")
except ImportError:
    pass
"""
    found = {(one.module, one.lazy) for one in imports_of(source)}
    assert found == {
        ("a", False), ("c", False), ("e", False), ("h", True), ("importlib", True), ("i", True),
        ("l", False), ("n", False), ("o", False),
    }  # fmt: skip


def test_the_rooms_are_where_this_file_looks_for_them():
    """A moved folder must not turn the checks above into checks of nothing."""
    assert {path.name for path in files_of("gpt2")} >= {"model.py", "tokenizer.py", "folder.py"}
    assert all(files_of(layer) for layer in LAYERS)
