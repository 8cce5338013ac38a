"""What the tests of runs share: a toy model folder, a text for it, quick orders, patience.

The fixtures made of these are in conftest.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from gpt2.folder import save_model
from gpt2.model import GPT2, ModelConfig
from gpt2.text import TextFile
from gpt2.tokenizer import BytePairTokenizer, CharacterTokenizer, byte_characters
from service.limits import Limits
from service.request import RunRequest
from service.runs import Runs
from train.config import TrainConfig
from train.data import build_corpus
from train.run_folder import RunFolder

TEXT = "It is a truth universally acknowledged, that a text must be long.\n" * 40
QUICK = {
    "steps": 12,
    "batch_size": 4,
    "micro_batch_size": 4,
    "block_size": 16,
    "learning_rate": 3e-3,
    "dropout": 0.1,
    "evaluate_every": 4,
    "sample_every": 4,
    "sample_tokens": 8,
    "precision": "float32",
}
LONG = QUICK | {"steps": 50_000, "evaluate_every": 10, "sample_every": 0}
LIMITS = Limits(free_disk_bytes=0, threads=1)


def make_base(folder: Path) -> Path:
    """A model folder of bytes, 256 tokens and an end of text."""
    torch.manual_seed(0)
    stand_ins = byte_characters()
    vocabulary = {character: index for index, character in enumerate([*stand_ins, "<|endoftext|>"])}
    shape = ModelConfig(vocab_size=257, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    save_model(folder, GPT2(shape), BytePairTokenizer(vocabulary, []))
    return folder


def begin_toy_run(folder: Path, text: str, name: str, config: TrainConfig, dtype=torch.float32):
    """Begin or reopen the run `name` of a toy model over the characters of `text`: the arguments of
    `train`."""
    file = folder / "text.txt"
    file.write_text(text)
    tokenizer = CharacterTokenizer.from_text(text)
    shape = ModelConfig(
        tokenizer.vocab_size,
        n_positions=16,
        n_embd=16,
        n_layer=2,
        n_head=2,
        dropout=config.dropout,
    )
    torch.manual_seed(1)
    model = GPT2(shape).to(dtype)
    path = folder / name
    run = RunFolder(path) if path.exists() else RunFolder.create(path)
    data = build_corpus([TextFile(file)], tokenizer, folder / f"tokens-{name}", config)
    return model, data, config, run


def make_request(base: Path, changes: dict | None = None, **more: object) -> RunRequest:
    settings = tuple((QUICK if changes is None else changes).items())
    source = {} if "file" in more or "text" in more else {"text": TEXT}
    return RunRequest(str(base), changes=settings, **source, **more)


def wait(runs: Runs, run_id: str, until, seconds: float = 120):
    """The first status for which `until` holds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = runs.status(run_id)
        if until(status):
            return status
        time.sleep(0.02)
    pytest.fail(
        f"it never came; now {status.state} at {status.step}: {status.message}\n{status.log_tail}"
    )


def wait_for_end(runs: Runs, run_id: str):
    return wait(runs, run_id, lambda status: not status.state.is_active)
