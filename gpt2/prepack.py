"""Weights in the order in which oneDNN reads them: decoding is about twice as fast on a CPU.

Each generated token reads every weight once, so memory sets the pace, and on the plain layout
PyTorch's kernels reach half its speed or less. `torch.compile` reorders constant weights into the
blocks that oneDNN walks through; here the same operators are called without a compiler:
https://github.com/pytorch/pytorch/blob/v2.13.0/torch/_inductor/fx_passes/mkldnn_fusion.py

They are private to PyTorch, so they are first tried on a small product. If they are missing or
wrong (other versions, platforms, processors, number formats), the model stays as it is.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2.model import GPT2, Block, KVCache

# Reading the weights takes the same time for one row as for four, yet oneDNN's kernel for one or
# two rows is a quarter slower than the one for three to six (Zen 4, AVX-512; fp32 and bf16).
MIN_ROWS = 4


def prepack(model: GPT2) -> GPT2:
    """The model for inference, with reordered weights if this machine benefits from them.

    The given model is used up: its matrices are released one by one, so that there are never two
    copies of everything. Off the CPU, or in float16 or float64, it is returned as it is.
    """
    if model.device.type != "cpu" or not _works(model.wpe.weight.dtype):
        return model
    return PackedGPT2(model, PackedLinear).eval().requires_grad_(False)


class PackedGPT2(GPT2):
    """A GPT-2 of packed products. It generates and scores; it can be neither trained nor saved."""

    def __init__(self, model: GPT2, product: type[RowProduct]) -> None:
        nn.Module.__init__(self)
        self.config = model.config
        self._parameter_count = model.parameter_count()
        self.wte, self.wpe, self.h, self.ln_f = model.wte, model.wpe, model.h, model.ln_f
        self.fewest_rows = product.fewest_rows
        for block in model.h:
            _pack_block(block, product)
            trim_memory()
        if model.config.tie_word_embeddings:  # the rows of wte stay, for looking up tokens
            self.packed_head = product(model.wte.weight)
        else:
            self.packed_head = product(model.lm_head.weight)
            del model.lm_head
        trim_memory()
        self.flat = [FlatLayer.of(block) for block in self.h]

    def head(self, hidden: Tensor) -> Tensor:
        return self.packed_head(hidden)

    def new_cache(self, batch: int = 1, capacity: int | None = None) -> KVCache:
        # In float32 also for a bf16 model: PyTorch's attention of one query is 3 to 8 times faster
        # then, and more exact; the memory for that is small compared with the weights.
        like = self.wpe.weight.new_empty(0, dtype=torch.float32)
        return KVCache(self.config, batch, capacity or self.config.n_positions, like)

    def parameter_count(self) -> int:
        return self._parameter_count

    def state_dict(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        raise TypeError("a prepacked model has no state dict: load the model folder again")


class RowProduct(nn.Module):
    """x @ weight.t() + bias, and a GELU if asked for, "tanh" or "none" as `F.gelu` calls them;
    weight (out, in), in an order of its own."""

    fewest_rows = 1  # that `rows` takes
    dtype: torch.dtype  # of x

    def __init__(self, weight: Tensor, bias: Tensor | None = None, gelu: str | None = None) -> None:
        super().__init__()
        self.n_out, self.n_in = weight.shape
        self.bias = bias

    def rows(self, x: Tensor) -> Tensor:
        """(R, in) -> (R, out)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        rows = x.reshape(-1, self.n_in)
        count = rows.size(0)
        if 0 < count < self.fewest_rows - 1:
            rows = torch.cat((rows,) * (self.fewest_rows // count))
        return self.rows(rows)[:count].view(*x.shape[:-1], self.n_out)


class PackedLinear(RowProduct):
    """In oneDNN's order only, and in the weight's own numbers."""

    fewest_rows = MIN_ROWS

    def __init__(self, weight: Tensor, bias: Tensor | None = None, gelu: str | None = None) -> None:
        super().__init__(weight, bias)
        self.dtype = weight.dtype
        then = ("gelu", [], gelu) if gelu else ("none", [], "")
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        self._rest = (packed, bias, *then)  # arguments of the operator, after x

    def rows(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise.default(x, *self._rest)


class FlatLayer(NamedTuple):
    """A block as arguments of the operators that compute it: looking modules up and calling them
    takes as long as the products of a small model."""

    norm_1: tuple  # of layer_norm
    qkv: Callable[[Tensor], Tensor]  # of rows, as all products
    scale: float | None  # of attention
    projection: Callable[[Tensor], Tensor]
    norm_2: tuple
    up: Callable[[Tensor], Tensor]
    down: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, block: Block) -> FlatLayer:
        attn, (up, down) = block.attn, block.mlp
        norm_1, norm_2 = norm_arguments(block.ln_1), norm_arguments(block.ln_2)
        return cls(
            norm_1, attn.c_attn.rows, attn.scale, attn.c_proj.rows, norm_2, up.rows, down.rows
        )


def norm_arguments(norm: nn.LayerNorm) -> tuple:
    return norm.normalized_shape, norm.weight, norm.bias, norm.eps


def _pack_block(block: Block, product: type[RowProduct]) -> None:
    attn, mlp = block.attn, block.mlp
    attn.c_attn = product(attn.c_attn.weight.t(), attn.c_attn.bias)
    attn.c_proj = product(attn.c_proj.weight.t(), attn.c_proj.bias)
    block.mlp = nn.Sequential(
        product(mlp.c_fc.weight.t(), mlp.c_fc.bias, gelu=mlp.gelu),
        product(mlp.c_proj.weight.t(), mlp.c_proj.bias),
    )


def trim_memory() -> None:
    """Give freed memory back to the system; otherwise glibc keeps a third of the model."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@functools.cache
def _works(dtype: torch.dtype) -> bool:
    """Whether the private operators exist here and agree with the public ones."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 64, generator=generator).to(dtype) for n in (1, 96))
    expected = F.gelu(F.linear(x, weight), approximate="tanh")
    try:
        packed = PackedLinear(weight, gelu="tanh")(x)
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(packed, expected, rtol=0, atol=1e-4 if dtype == torch.float32 else 0.2)
