"""Which device computes: the one a person names, or the best of this machine."""

from __future__ import annotations

import re

import torch

from gpt2.errors import UserError


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name: "cpu", "cuda", "cuda:1" or "mps"; "auto" is the first of CUDA, MPS
    and CPU that is here. `UserError` for any other name and for what is not here."""
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
        return torch.device(found)
    if type(name) is not str or not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", name):
        raise UserError(f"device must be auto, cpu, cuda, cuda:N or mps, not {str(name)[:40]!r}.")
    device = torch.device(name)
    if device.type == "cuda":
        _require_cuda(device)
    if device.type == "mps" and not _has_mps():
        raise UserError(
            "There is no mps here: PyTorch finds it on Macs with Apple's chips and macOS 14 or "
            "later. Choose cpu, or leave the device out."
        )
    return device


def has_float64(device: torch.device) -> bool:
    """Whether the device computes in float64; Apple's GPUs do not."""
    return device.type != "mps"


def _require_cuda(device: torch.device) -> None:
    if not torch.cuda.is_available():
        why = (
            "PyTorch finds no GPU"
            if torch.version.cuda or torch.version.hip
            else "this PyTorch is built for CPUs alone (pytorch.org says how to get another)"
        )
        raise UserError(f"There is no {device} here: {why}. Choose cpu, or leave the device out.")
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        last = f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0 alone"
        raise UserError(f"There is no {device} here: {last}.")


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
