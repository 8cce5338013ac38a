"""Two processes are one: real torchrun worlds on a CPU, in float64."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gpt2.errors import UserError
from train.distributed import World, join

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "tests" / "support" / "distributed_worker.py"


def launch(ranks: int, out: Path, kind: str, *more: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(WORKER), str(out), kind, *more]
    if ranks > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command[1:1] = [*launcher, "--local-addr=127.0.0.1"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def train_on(ranks: int, out: Path, kind: str, *more: str) -> dict:
    done = launch(ranks, out, kind, *more)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(out / "result.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train_on(1, tmp_path_factory.mktemp("alone"), "ddp")


def assert_equal(ours: dict, theirs: dict) -> None:
    assert set(ours) == set(theirs)
    for name in ours:
        assert (ours[name] - theirs[name]).abs().max() <= 1e-10, name


def test_two_ranks_with_ddp_are_one_process(alone, tmp_path):
    """Seven windows over two ranks and micro-batches of two: unequal everywhere."""
    assert_equal(train_on(2, tmp_path, "ddp"), alone)


def test_two_ranks_with_sharding_stopped_and_resumed_are_one_process(alone, tmp_path):
    """Sharded weights and optimizer state also go through a checkpoint and back."""
    train_on(2, tmp_path, "shard", "stop")
    assert_equal(train_on(2, tmp_path, "shard"), alone)


def test_memory_that_one_rank_lacks_ends_them_all_with_its_word(tmp_path):
    """Going on with half the micro-batch left the other rank waiting for gradients for ever."""
    done = launch(2, tmp_path, "hungry")
    assert done.returncode != 0
    assert "Out of memory at a micro-batch of 2. Resume with a smaller one" in done.stderr


@pytest.mark.parametrize(("size", "batch"), [(1, 5), (2, 7), (3, 3), (4, 10)])
def test_ranks_share_a_batch_without_gap_or_overlap(size, batch):
    rows = [row for rank in range(size) for row in range(batch)[World(rank, size).rows(batch)]]
    assert rows == list(range(batch))


@pytest.fixture
def second_rank(monkeypatch):
    """second_rank(gpus): as torchrun's second process of a machine with so many GPUs, of which
    there are none here; what it asked of PyTorch, in order."""
    asked = []

    def begin(gpus: int) -> list:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "set_device", asked.append)
        for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
            monkeypatch.setenv(name, value)
        group = torch.distributed
        monkeypatch.setattr(group, "init_process_group", asked.append)
        monkeypatch.setattr(group, "destroy_process_group", lambda: asked.append("end"))
        monkeypatch.setattr(group, "get_rank", lambda: 1)
        monkeypatch.setattr(group, "get_world_size", lambda: 2)
        return asked

    return begin


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_rank_has_the_gpu_of_its_number(second_rank, name):
    asked, gpu = second_rank(2), torch.device("cuda", 1)
    with join(name) as world:
        assert world == World(1, 2, gpu)
    assert asked == [gpu, "nccl", "end"]


@pytest.mark.parametrize(("gpus", "name"), [(0, "auto"), (0, "cpu"), (2, "cpu")])
def test_ranks_on_cpus_speak_gloo(second_rank, gpus, name):
    asked = second_rank(gpus)
    with join(name) as world:
        assert world == World(1, 2, torch.device("cpu"))
    assert asked == ["gloo", "end"]


@pytest.mark.parametrize(
    ("gpus", "name", "words"),
    [
        (2, "cuda:1", "may be cuda or cpu, not 'cuda:1'"),
        (0, "mps", "may be cuda or cpu"),
        (1, "auto", "no cuda:1 here: cuda:0 alone"),  # two processes and one GPU
        (0, "cuda", "no cuda:1 here"),
    ],
)
def test_a_rank_without_its_device_says_so(second_rank, gpus, name, words):
    asked = second_rank(gpus)
    with pytest.raises(UserError, match=words), join(name):
        pass
    assert asked == []


def test_without_torchrun_the_device_is_the_one_that_was_asked_for(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with join("cpu") as world:
        assert world == World(0, 1, torch.device("cpu"))
    with pytest.raises(UserError, match="device must be"), join("tpu"):
        pass
