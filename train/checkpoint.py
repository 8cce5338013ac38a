"""Checkpoints: the tensors of a run out of the model and back, and on disk, whole or not at all.

A checkpoint is written aside as a whole directory, synced to disk, described by a manifest of sizes
and sha256, and only then renamed to its name: after a crash it is there entirely or not at all.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from gpt2.errors import UserError
from gpt2.files import ASIDE, is_disk_full, list_folder, read_json, replacing_folder, to_json
from train import distributed

_FILES = ("model.safetensors", "optimizer.safetensors", "trainer.json")  # beside the manifest
_STEP = re.compile("step-([0-9]{1,9})")


@dataclass(frozen=True)
class Checkpoint:
    step: int
    model: dict[str, Tensor]  # what trains, on the CPU
    optimizer: dict[str, Tensor]  # by "parameter|field"
    trainer: dict[str, Any]  # plain values


class DiskFull(Exception):
    """What was to be written found no room; the last checkpoint is untouched."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"The disk is full: {what} in {path}. The last checkpoint is whole; make room and "
            "resume the run."
        )


@contextmanager
def raising_disk_full(path: Path, what: str) -> Iterator[None]:
    """A full disk becomes `DiskFull`, which says `what` needed the room."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise DiskFull(path, what) from None
        raise


class Checkpoints:
    """The checkpoints of a run, step-N/ each. One process writes; any number may read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def folder(self, step: int) -> Path:
        return self.path / f"step-{step}"

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint whole, or leave nothing. `DiskFull` says how much room it needs."""
        target = self.folder(checkpoint.step)
        with (
            raising_disk_full(self.path.parent, _needs(checkpoint)),
            replacing_folder(target, durable=True) as aside,
        ):
            save_file(checkpoint.model, aside / "model.safetensors", metadata={"format": "pt"})
            save_file(checkpoint.optimizer, aside / "optimizer.safetensors")
            (aside / "trainer.json").write_text(to_json(checkpoint.trainer), encoding="utf-8")
            manifest = {path.name: _fingerprint(path) for path in sorted(aside.iterdir())}
            (aside / "manifest.json").write_text(to_json(manifest), encoding="utf-8")

    def steps(self) -> list[int]:
        """The steps of all checkpoints, whether they verify or not, ascending."""
        found = (_STEP.fullmatch(path.name) for path in list_folder(self.path))
        return sorted(int(name[1]) for name in found if name and name[1] == str(int(name[1])))

    @property
    def last_step(self) -> int:
        return max(self.steps(), default=0)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint whose files are what its manifest says."""
        for aside in list_folder(self.path):
            if aside.name.startswith(ASIDE):
                shutil.rmtree(aside, ignore_errors=True)
        for step in reversed(self.steps()):
            if self.verify(step):
                return self.load(step)
        return None

    def verify(self, step: int) -> bool:
        """Whether the files of a checkpoint are what its manifest says."""
        folder = self.folder(step)
        try:
            manifest = read_json(folder / "manifest.json")
            return all(manifest[name] == _fingerprint(folder / name) for name in _FILES)
        except (OSError, UserError, LookupError, TypeError):
            return False

    def load(self, step: int) -> Checkpoint:
        folder = self.folder(step)
        model, optimizer = (
            load_file(folder / f"{name}.safetensors") for name in ("model", "optimizer")
        )
        return Checkpoint(step, model, optimizer, read_json(folder / "trainer.json"))

    def prune(self, keep: Iterable[int]) -> None:
        for step in set(self.steps()) - set(keep):
            shutil.rmtree(self.folder(step), ignore_errors=True)


def trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """What trains, copied to the CPU; of sharded tensors the whole, on every rank."""
    return {name: distributed.full(p) for name, p in trainable(model).items()}


def copy_optimizers(model: nn.Module, optimizers: Iterable[Optimizer]) -> dict[str, Tensor]:
    """As `copy_weights`, by "parameter|field"."""
    names = {id(p): name for name, p in trainable(model).items()}
    return {
        f"{names[id(p)]}|{field}": distributed.full(value)
        for optimizer in optimizers
        for p, values in optimizer.state.items()
        for field, value in values.items()
    }


def fill_weights(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """The way back of `copy_weights`. `KeyError` when these are not the tensors of this model."""
    parameters = trainable(model)
    if {name: p.shape for name, p in parameters.items()} != {
        name: tensor.shape for name, tensor in saved.items()
    }:
        raise KeyError("the tensors of another model")
    for name, p in parameters.items():
        distributed.fill(p, saved[name])


def fill_optimizers(
    model: nn.Module, optimizers: Iterable[Optimizer], saved: Mapping[str, Tensor]
) -> None:
    """The way back of `copy_optimizers`."""
    parameters = trainable(model)
    for optimizer in optimizers:
        owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        optimizer.state.clear()
        for key, value in saved.items():
            name, _, field = key.partition("|")
            p = parameters[name]
            if id(p) in owned:
                optimizer.state[p][field] = _like(p, value)


def _like(p: Tensor, value: Tensor) -> Tensor:
    """Optimizer state where the optimizer would have made it: like its parameter, counts aside."""
    if value.dim() == 0:
        return value.to(p.device)
    target = torch.empty_like(p)
    distributed.fill(target, value)
    return target


def _needs(checkpoint: Checkpoint) -> str:
    tensors = [*checkpoint.model.values(), *checkpoint.optimizer.values()]
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return f"a checkpoint needs about {max(1, round(needed / 1e6)):,} MB"


def _fingerprint(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(path)
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}
