"""One process or many: `World` is what a rank knows about the others.

Under torchrun, every rank reads its own rows of each batch; DistributedDataParallel averages the
gradients, and FullyShardedDataParallel (FSDP2) also shards weights and optimizer state. A single
rank needs none of this: every method just returns its own value, and FSDP is not even imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from gpt2.device import choose_device
from gpt2.errors import UserError
from gpt2.folder import empty_model
from gpt2.model import GPT2
from gpt2.settings import quote


@dataclass(frozen=True)
class World:
    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """This rank's rows of a batch; ranks may have unequal numbers of rows, but at least one."""
        each, more = divmod(batch_size, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all ranks."""
        if self.size > 1:
            value = value.clone()
            distributed.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Whether it is true on any rank."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def barrier(self) -> None:
        if self.size > 1:
            distributed.barrier()


@contextmanager
def join(device_name: str = "auto") -> Iterator[World]:
    """The world that torchrun describes in the environment, else one rank; on the device that
    `choose_device` finds by that name. Under torchrun each rank has a GPU of its own."""
    if "RANK" not in os.environ:
        yield World(device=choose_device(device_name))
        return
    device = _device_of_rank(device_name, int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()


def _device_of_rank(name: str, local_rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UserError(
            f"Under torchrun every process has a device of its own: device may be cuda or cpu, not "
            f"{quote(name)}."
        )
    return choose_device(f"cuda:{local_rank}" if name == "cuda" else name)


def wrap(loss: nn.Module, world: World, shard: bool) -> nn.Module:
    """`loss`, a module around the model in `loss.model`, with gradients averaged over the ranks."""
    if world.size == 1:
        return loss
    if not shard:
        return DistributedDataParallel(loss)
    from torch.distributed.fsdp import fully_shard

    for block in loss.model.h:
        fully_shard(block)
    return fully_shard(loss)


def accumulating(wrapped: nn.Module, last: bool):
    """A context for one micro-batch: gradients are exchanged only in the last one.

    DDP reads its switch in the forward, so the context must span both passes.
    """
    if isinstance(wrapped, DistributedDataParallel) and not last:
        return wrapped.no_sync()
    return nullcontext()


def gathered(model: GPT2) -> GPT2:
    """The model itself or, if it is sharded, a plain copy on every rank: for evaluation, samples
    and export, which would otherwise bypass FSDP's hooks."""
    if not any(map(_is_sharded, model.parameters())):
        return model
    plain = empty_model(model.config)
    state = {name: p.detach().full_tensor() for name, p in model.named_parameters()}
    plain.load_state_dict(state, assign=True)
    return plain


def full(tensor: Tensor) -> Tensor:
    """A plain CPU copy of a tensor; if it is sharded, on every rank."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if _is_sharded(tensor) else tensor).cpu().contiguous()


def fill(target: Tensor, value: Tensor) -> None:
    """The inverse of `full`."""
    with torch.no_grad():
        if _is_sharded(target):
            from torch.distributed.tensor import distribute_tensor

            value = distribute_tensor(
                value.to(target.device), target.device_mesh, target.placements
            )
        target.copy_(value)


def _is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")  # a DTensor, and nothing else
