"""How long `python -m gpt2 convert` takes, and how much memory at most.

    python benchmarks/convert.py --size 124M

Writes a checkpoint of random values with TensorFlow, under OpenAI's names; converts it with the
command, in a process of its own; then compares every tensor of the folder, read with the
safetensors library, with the values drawn again. Needs twice the model's size on the disk of
--directory, and while TensorFlow writes, the model's size in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from safetensors import safe_open

from gpt2.model import SIZES, ModelConfig
from gpt2.openai_names import PREFIX, Row, name_map, write_release_texts
from gpt2.tokenizer import gpt2_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="124M")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--directory", metavar="DIR", help="where to write (default: temporary)")
    parser.add_argument("--write", metavar="DIR", help=argparse.SUPPRESS)  # its own process
    options = parser.parse_args()
    if options.write:
        write_checkpoint(Path(options.write), SIZES[options.size])
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        checkpoint, folder = Path(scratch, "checkpoint"), Path(scratch, "folder")
        # Both as children: the memory that writing takes must not count for converting.
        itself = [sys.executable, __file__, "--size", options.size, "--write", str(checkpoint)]
        subprocess.run(itself, check=True)
        seconds, peak = convert(checkpoint, folder, options.dtype)
        compared = compare(folder, SIZES[options.size], getattr(torch, options.dtype))
        size = (folder / "model.safetensors").stat().st_size
    result = {
        "size": options.size,
        "dtype": options.dtype,
        "seconds": round(seconds, 1),
        "peak_gb": round(peak / 1e9, 2),
        "file_gb": round(size / 1e9, 2),
        "tensors_equal": compared,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "tensorflow-cpu", "safetensors")},
    }
    print(json.dumps(result))


def draw(index: int, row: Row) -> torch.Tensor:
    """The random values of one variable, the same whenever they are drawn."""
    generator = torch.Generator().manual_seed(index)
    return torch.empty(row.stored_shape).normal_(0, 0.02, generator=generator)


def write_checkpoint(directory: Path, config: ModelConfig) -> None:
    import tensorflow as tf

    directory.mkdir()
    rows = list(enumerate(name_map(config)))
    rows.sort(key=lambda numbered: numbered[1].variable)
    tf.raw_ops.SaveV2(
        prefix=str(directory / PREFIX),
        tensor_names=[row.variable for _, row in rows],
        shape_and_slices=[""] * len(rows),
        tensors=[draw(index, row).numpy() for index, row in rows],
    )
    write_release_texts(directory, config, gpt2_tokenizer())


def convert(checkpoint: Path, folder: Path, dtype: str) -> tuple[float, int]:
    """Seconds and peak resident bytes of the command, its start and its self-check included."""
    command = [sys.executable, "-m", "gpt2", "convert", checkpoint, folder, "--dtype", dtype]
    started = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status != 0:
        sys.exit(f"convert ended with status {status}")
    unit = 1 if platform.system() == "Darwin" else 1024
    return seconds, usage.ru_maxrss * unit


def compare(folder: Path, config: ModelConfig, dtype: torch.dtype) -> int:
    """How many tensors there are, all equal to what was drawn."""
    rows = name_map(config)
    with safe_open(folder / "model.safetensors", framework="pt", backend="pread") as file:
        for index, row in enumerate(rows):
            expected = draw(index, row).reshape(row.shape).to(dtype)
            if not torch.equal(file.get_tensor(row.tensor), expected):
                sys.exit(f"{row.tensor} is another")
    return len(rows)


if __name__ == "__main__":
    main()
