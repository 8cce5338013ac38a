"""The next-token loss of a batch, with the head and the loss fused into one operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gpt2.model import GPT2

_ROWS_A_PRODUCT = 1024  # positions whose logits exist at the same time
_LOGITS_A_SOFTMAX = 64 * 50257  # few enough to stay in the cache


class NextTokenLoss(nn.Module):
    """The summed loss of (B, T + 1) windows, nats; the module that is compiled and distributed."""

    def __init__(self, model: GPT2) -> None:
        super().__init__()
        self.model = model

    def forward(self, windows: Tensor) -> Tensor:
        hidden = self.model.hidden(windows[:, :-1])  # (B, T, C)
        targets = windows[:, 1:].flatten()  # (B T,)
        return _HeadLoss.apply(hidden.flatten(0, 1), self.model.head_weight, targets)


class _HeadLoss(torch.autograd.Function):
    """cross_entropy(hidden @ weight.T, targets, reduction="sum"), differentiated as it goes.

    A position's logits, (V,), are needed only for its own loss and gradient. So they are computed
    for some positions at a time and turned into their gradient in place: log-probabilities,
    probabilities and gradients of all positions are never in memory together. For 4 x 256 tokens
    of GPT-2, that saves 0.6 GB.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """(N, C), (V, C), (N,) -> ()"""
        needs_hidden, needs_weight, _ = ctx.needs_input_grad
        fast, head = _as_autocast(hidden), _as_autocast(weight)
        total = torch.zeros((), device=hidden.device, dtype=_accurate(hidden.dtype))
        ctx.grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        ctx.grad_weight = None
        for start in range(0, len(hidden), _ROWS_A_PRODUCT):
            rows = slice(start, start + _ROWS_A_PRODUCT)
            logits = fast[rows] @ head.t()  # (R, V)
            total += _to_gradient(logits, targets[rows])
            if needs_hidden:
                ctx.grad_hidden[rows] = logits @ head
            if needs_weight:
                part = (logits.t() @ fast[rows]).to(weight.dtype)
                ctx.grad_weight = part if ctx.grad_weight is None else ctx.grad_weight.add_(part)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden, weight = ctx.grad_hidden, ctx.grad_weight
        return (
            None if hidden is None else hidden.mul_(grad.to(hidden.dtype)),
            None if weight is None else weight.mul_(grad.to(weight.dtype)),
            None,
        )


def _to_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """The summed loss of (R, V) logits, which become its gradient, softmax - one-hot, in place."""
    total = torch.zeros((), device=logits.device, dtype=_accurate(logits.dtype))
    rows = max(1, _LOGITS_A_SOFTMAX // logits.size(1))
    for part, target in zip(logits.split(rows), targets.split(rows)):
        wanted = target.unsqueeze(1)
        scores = torch.log_softmax(part, dim=1, dtype=total.dtype)
        total -= scores.gather(1, wanted).sum()
        gradient = scores.exp_()
        gradient.scatter_add_(1, wanted, gradient.new_full((), -1.0).expand_as(wanted))
        part.copy_(gradient)
    return total


def _accurate(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _as_autocast(tensor: Tensor) -> Tensor:
    """What autocast would make of an argument of a matrix product."""
    device = tensor.device.type
    if torch.is_autocast_enabled(device):
        return tensor.to(torch.get_autocast_dtype(device))
    return tensor
