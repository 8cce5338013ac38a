"""Weights of eight bits: half the bytes of bfloat16 are read for each token, on a CPU.

A weight's row has one scale. So has each row of activations, found anew every time: they become
unsigned eight-bit numbers around 128, the products of which are summed as integers, exactly. Hence
a row's result depends on no other row, as `gpt2.decode` promises. (`quantized.linear_dynamic` would
take one scale for all rows; signed activations fall to a reference kernel.)

The operators are private to PyTorch and are tried first, as in `gpt2.prepack`. Token and position
embeddings, layer norms and attention are not quantized.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from gpt2.errors import UserError
from gpt2.model import GPT2
from gpt2.prepack import PackedGPT2, RowProduct, trim_memory

_LARGEST = 127
_MIDDLE = torch.tensor(128.5)  # zero, and the half that makes truncation rounding
_TINY = 1e-20  # a row of zeros has a scale, too


def quantize_int8(model: GPT2) -> GPT2:
    """The model for inference, its matrices in eight bits and its token embedding in bfloat16.

    The given model, in float32 for the best rounding, is used up. `UserError` where this machine
    has not got the operators.
    """
    if model.device.type != "cpu" or not has_int8():
        raise UserError("int8 is for CPUs whose PyTorch has oneDNN. Choose bfloat16 or float32.")
    small = PackedGPT2(model, Int8Linear).eval().requires_grad_(False)
    small.wte.weight.data = small.wte.weight.data.bfloat16()
    trim_memory()
    return small


class Int8Linear(RowProduct):
    """With scales for each row of the weight and of the input."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, gelu: str | None = None) -> None:
        super().__init__(weight, bias)
        self.dtype, self._gelu = torch.float32, gelu
        weight = weight.detach().float().contiguous()  # the operator reads it as it lies
        scale = weight.abs().amax(1).clamp(min=_TINY) / _LARGEST  # (out,)
        whole = (weight / scale[:, None]).round().to(torch.int8)
        packed = torch.ops.onednn.qlinear_prepack(whole, None)
        zeros = torch.zeros(self.n_out, dtype=torch.int32)
        # The input's own scale is left to `rows`; the operator is told 1, and 128 as its zero.
        ours, then = (1.0, 128, packed, scale / _LARGEST, zeros, None), ("none", [], "")
        self._rest = (*ours, 1.0, 0, torch.float32, *then)  # arguments after x

    def rows(self, x: Tensor) -> Tensor:
        largest = x.abs().amax(1, keepdim=True).clamp_(min=_TINY)  # (R, 1)
        whole = torch.add(_MIDDLE, x * largest.reciprocal(), alpha=_LARGEST).to(torch.uint8)
        out = torch.ops.onednn.qlinear_pointwise.default(whole, *self._rest)  # (R, out)
        out = out.mul_(largest) if self.bias is None else self.bias.addcmul(out, largest)
        return F.gelu(out, approximate=self._gelu) if self._gelu else out


@functools.cache
def has_int8() -> bool:
    """Whether the operators exist here and agree with a product of float32."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 64, generator=generator) for n in (5, 96))
    try:
        found = Int8Linear(weight)(x)
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(found, F.linear(x, weight), rtol=0, atol=0.5)
