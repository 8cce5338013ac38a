"""The suite leaves nothing behind: it once left visitors' texts by the hundred."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
UPLOADS = "tests/ui/test_finetune.py::test_an_upload_leaves_the_folder_that_is_served"
SERVER = "tests/ui/test_turns.py::test_the_same_file_of_two_visitors_is_two_files"


def test_a_session_of_tests_leaves_the_temporary_folder_as_it_was(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
    } | {"TMPDIR": str(place), "TEMP": str(place), "TMP": str(place)}
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", UPLOADS, SERVER],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stdout
    assert list(place.iterdir()) == []


def test_a_workers_temporary_folder_is_its_sessions():
    """And so short that a socket finds room in it: 104 characters on macOS."""
    folder = Path(tempfile.gettempdir())
    assert re.fullmatch(r"g2-\w{8}", folder.name)
    assert not folder.parent.name.startswith("g2-"), "a worker made one of its own"
