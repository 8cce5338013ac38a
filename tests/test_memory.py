"""Freed memory is kept by the process, where the C library can be told to."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COUNT = """
import resource, sys, torch
from train.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        held = [torch.ones(1_000_000) for _ in range(30)]  # as the activations of a step
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_the_same_memory_is_used_again_without_a_page_fault():
    """A small model spent an eighth of its training time in the faults of fresh memory."""
    counts = {}
    for word in ("keep", "return"):
        command = [sys.executable, "-c", COUNT, word]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        counts[word] = int(done.stdout)
    assert counts["keep"] < 1000 < 10_000 < counts["return"]
