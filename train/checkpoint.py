"""The tensors of a run: those that train, and their optimizer state, out of it and back in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from train import distributed


def trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Copies on the CPU; of sharded ones on every rank."""
    return {name: distributed.full(p) for name, p in trainable(model).items()}


def optimizer_state(model: nn.Module, optimizers: Iterable[Optimizer]) -> dict[str, Tensor]:
    """As `weights`, by "parameter|field"."""
    names = {id(p): name for name, p in trainable(model).items()}
    return {
        f"{names[id(p)]}|{field}": distributed.full(value)
        for optimizer in optimizers
        for p, values in optimizer.state.items()
        for field, value in values.items()
    }


def fill_weights(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """`KeyError` when these are not the tensors of this model."""
    parameters = trainable(model)
    if set(saved) != set(parameters):
        raise KeyError("the tensors of another model")
    for name, p in parameters.items():
        distributed.fill(p, saved[name])


def fill_optimizers(
    model: nn.Module, optimizers: Iterable[Optimizer], saved: Mapping[str, Tensor]
) -> None:
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
