"""Number formats: which a device computes in, and how to make it do so."""

from __future__ import annotations

import torch

from gpt2.errors import UserError

FORMATS = ("auto", "float32", "tf32", "bfloat16", "float16")
_MIXED = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def number_format(chosen: str, device: torch.device) -> str:
    """The format that `chosen` means on `device`: "auto" is bfloat16 where it is fast.
    `UserError` for one that the device does not have."""
    if chosen == "auto":
        return _automatic(device)
    if chosen == "tf32" and device.type != "cuda":
        raise UserError("tf32 is for NVIDIA's GPUs. Choose bfloat16 or float32.")
    return chosen


def computing_in(name: str, device: torch.device) -> torch.autocast:
    """A context in which matrix products are computed in that format. Weights, sums and losses stay
    float32; tf32 rounds the factors of float32 products, on GPUs."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest" if name == "float32" else "high")
    dtype = _MIXED.get(name)
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def _automatic(device: torch.device) -> str:
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if fast else "float16"
    if device.type != "cpu":
        return "float32"
    # Without these instructions bfloat16 is emulated, slower than float32.
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"
