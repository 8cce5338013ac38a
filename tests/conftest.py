"""What several test modules share: no network, few threads, toy models, no traces."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Before gradio is imported, which looks the temporary folder up: whatever tests leave there, and
# the programs that they start, goes with the session. The name is short: sockets lie in there, too.
if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker is part of a session
    os.environ["TMPDIR"] = os.environ["TEMP"] = os.environ["TMP"] = tempfile.mkdtemp(prefix="g2-")
    tempfile.tempdir = None
    atexit.register(shutil.rmtree, os.environ["TMPDIR"], ignore_errors=True)

# Before any import that reads them: no test may depend on a network or on a warm cache.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Toy models gain nothing from a second thread, and lose much where the cores are busy. The programs
# that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

from gpt2.model import GPT2, ModelConfig
from gpt2.tokenizer import CharacterTokenizer


def _make_model(
    seed: int = 0, dtype: torch.dtype = torch.float32, scale: float = 0.3, **shape: object
) -> GPT2:
    toy = {"vocab_size": 97, "n_positions": 64, "n_embd": 24, "n_layer": 2, "n_head": 3}
    model = GPT2(ModelConfig(**{**toy, **shape}))
    randomize(model, seed, scale)
    return model.to(dtype).eval()


def randomize(model: torch.nn.Module, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0.0, scale, generator=generator)
            if ".ln_" in f".{name}" and name.endswith("weight"):
                parameter.add_(1.0)


@pytest.fixture(scope="session")
def make_model():
    """make_model(seed=, dtype=, scale=, **shape): a toy model in eval mode.

    Every parameter is random, biases and norms too: at their initial 0 and 1 they would hide
    mistakes, and the small initial weights make attention nearly uniform.
    """
    return _make_model


@pytest.fixture(scope="session")
def characters() -> CharacterTokenizer:
    """97 characters, as many as a toy model has ids: printable ASCII, a new line and one beyond."""
    return CharacterTokenizer(["\n", *map(chr, range(0x20, 0x7F)), "é"])


@pytest.fixture(scope="session")
def randomize_parameters():
    """randomize_parameters(module, seed, scale): as `make_model` does it, for any module."""
    return randomize


@pytest.fixture
def call_here(capsys):
    """call_here(main, *arguments): a command's status, stdout and stderr, without a process of its
    own, which takes seconds to start and is not needed for a call that is refused."""

    def call(main, *arguments: str) -> tuple[int, str, str]:
        try:
            status = main(list(arguments))
        except SystemExit as left:
            status = left.code
        return status, *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The folder of a toy model of bytes."""
    from tests.support.toy_runs import make_base

    return make_base(tmp_path_factory.mktemp("base") / "toy")


@pytest.fixture(scope="module")
def no_probe():
    """Steps with a known pace: what a step takes is measured in test_estimate.py."""
    from service import plan
    from service.pace import Pace

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "find_pace", lambda *given: Pace(0.01, 0.001, 0.004))
        yield


@pytest.fixture
def open_runs(tmp_path, no_probe):
    """A function that opens or reopens a server's runs; all workers are stopped at the end."""
    from service.runs import Runs
    from tests.support.toy_runs import LIMITS

    opened = []

    def open_(limits=LIMITS, folder="runs"):
        opened.append(Runs(tmp_path / folder, limits))
        return opened[-1]

    yield open_
    for runs in opened:
        runs.close(kill=True)
