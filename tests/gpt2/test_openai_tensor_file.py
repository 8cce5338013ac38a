"""Safetensors written tensor by tensor: the same bytes as the library's `save_file`."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt2.openai.tensor_file import write_tensors


def some_tensors(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"wte.weight": (7, 3), "h.10.x": (5,), "h.2.x": (2, 3, 4), "ü": (1,), "empty": (0, 4)}
    return {n: torch.randn(s, generator=generator).to(dtype) for n, s in shapes.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_file_is_the_one_that_the_library_writes(dtype, tmp_path):
    tensors = some_tensors(dtype)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    digest = write_tensors(tmp_path / "ours", shapes, dtype, tensors.__getitem__)
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    raw = (tmp_path / "ours").read_bytes()
    assert digest == hashlib.sha256(raw).hexdigest()
    assert raw == (tmp_path / "theirs").read_bytes()
    for name, tensor in load_file(tmp_path / "ours").items():
        assert torch.equal(tensor, tensors[name])


def test_each_tensor_is_asked_for_once_and_let_go_before_the_next(tmp_path):
    alive, most, asked = 0, 0, []

    class Counted(torch.Tensor):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def read(name):
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        asked.append(name)
        return torch.zeros(4).as_subclass(Counted)

    write_tensors(tmp_path / "file", {f"t{i}": (4,) for i in range(9)}, torch.float32, read)
    assert asked == [f"t{i}" for i in range(9)]
    assert most == 1


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(2, dtype=torch.float64)])
def test_a_tensor_that_is_not_as_announced_leaves_the_old_file(wrong, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="t is torch"):
        write_tensors(path, {"t": (2,)}, torch.float32, lambda name: wrong)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_matrix_that_lies_turned_in_memory_is_written_in_order(tmp_path):
    turned = torch.arange(6.0).reshape(2, 3).T
    write_tensors(tmp_path / "file", {"t": (3, 2)}, torch.float32, lambda name: turned)
    assert torch.equal(load_file(tmp_path / "file")["t"], turned)
