"""A safetensors file written tensor by tensor, for models larger than memory.

The format (github.com/huggingface/safetensors): the header's length in 8 bytes, little endian; a
JSON header with each tensor's type, shape and offsets; then the values. The library's `save_file`
writes the same bytes, but needs all tensors at once.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from gpt2.files import replacing

TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def write_tensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: torch.dtype,
    read: Callable[[str], Tensor],
) -> str:
    """Write every tensor in `shapes`, as returned by `read(name)`; returns the file's sha256.

    `read` is called once per name, in sorted order, and each tensor is released before the next.
    The file is written under a temporary name, synced to disk, and only then renamed.
    """
    header = file_header(shapes, dtype)
    digest = hashlib.sha256(header)
    with replacing(path) as aside, open(aside, "wb") as file:
        file.write(header)
        for name in sorted(shapes):
            tensor = read(name)
            if tuple(tensor.shape) != tuple(shapes[name]) or tensor.dtype != dtype:
                raise ValueError(f"{name} is {tensor.dtype} {list(tensor.shape)}")
            values = tensor.contiguous().flatten().view(torch.uint8).numpy()
            digest.update(values)
            file.write(values)
            del tensor, values
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def file_header(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> bytes:
    """Length and JSON header, padded with spaces so that the values begin at a multiple of 8."""
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(shapes):
        begin, end = end, end + math.prod(shapes[name]) * dtype.itemsize
        described[name] = {
            "dtype": TYPES[dtype],
            "shape": list(shapes[name]),
            "data_offsets": [begin, end],
        }
    header = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header
