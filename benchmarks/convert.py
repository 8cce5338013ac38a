"""How long `python -m gpt2 convert` takes, and how much memory at most.

    python benchmarks/convert.py --size 124M [--logits]

Writes a checkpoint of random values with TensorFlow, under OpenAI's names; converts it with the
command, in a process of its own; then compares every tensor in the folder, read with the
safetensors library, with the same values drawn again. Needs twice the model's size on the disk of
--directory and, while TensorFlow writes, the model's size in memory. --logits also compares our
logits with those of `transformers`' GPT-2, which gets the same values under names written here by
hand, in float32 and float64.
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
from gpt2.openai.names import PREFIX, Row, name_map, write_release_texts
from gpt2.temporary import Temporary, temp_part
from gpt2.tokenizer import gpt2_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="124M")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--directory", metavar="DIR", help="where to write (default: temporary)")
    parser.add_argument("--logits", action="store_true", help="compare with transformers' logits")
    parser.add_argument("--write", metavar="DIR", help=argparse.SUPPRESS)  # its own process
    options = parser.parse_args()
    if options.write:
        write_checkpoint(Path(options.write), SIZES[options.size])
        return
    with tempfile.TemporaryDirectory(
        dir=options.directory or temp_part(Temporary.SCRATCH)
    ) as scratch:
        checkpoint, folder = Path(scratch, "checkpoint"), Path(scratch, "folder")
        # Both in child processes: memory used for writing must not count toward converting.
        itself = [sys.executable, __file__, "--size", options.size, "--write", str(checkpoint)]
        subprocess.run(itself, check=True)
        seconds, peak = convert(checkpoint, folder, options.dtype)
        compared = compare(folder, SIZES[options.size], getattr(torch, options.dtype))
        logits = compare_logits(folder, SIZES[options.size]) if options.logits else {}
        size = (folder / "model.safetensors").stat().st_size
    result = {
        "size": options.size,
        "dtype": options.dtype,
        "seconds": round(seconds, 1),
        "peak_gb": round(peak / 1e9, 2),
        "file_gb": round(size / 1e9, 2),
        "tensors_equal": compared,
        **logits,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "tensorflow-cpu", "safetensors")},
    }
    print(json.dumps(result))


def draw(index: int, row: Row) -> torch.Tensor:
    """The random values of one variable, the same every time they are drawn."""
    generator = torch.Generator().manual_seed(index)
    values = torch.empty(row.stored_shape).normal_(0, 0.02, generator=generator)
    return values + 1 if row.variable.endswith("/g") else values


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
    """Seconds and peak resident bytes of the command, including its start and self-check."""
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


def compare_logits(folder: Path, config: ModelConfig) -> dict[str, float]:
    """The largest difference of a logit in a window of random tokens, and the largest logit."""
    from gpt2.folder import load_model

    tokens = torch.randint(0, config.vocab_size, (1, 256), generator=torch.manual_seed(0))
    found = {}
    for dtype in (torch.float32, torch.float64):
        model, _ = load_model(folder, device="cpu", dtype=dtype)
        with torch.no_grad():
            ours, theirs = model(tokens), transformers_model(config, dtype)(tokens).logits
        name = str(dtype).removeprefix("torch.")
        found[f"largest_difference_{name}"] = (ours - theirs).abs().max().item()
    return found | {"largest_logit": round(theirs.abs().max().item(), 2)}


def transformers_model(config: ModelConfig, dtype: torch.dtype):
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd")}
    theirs = GPT2LMHeadModel(GPT2Config(**shape)).to(dtype).eval()
    parameters = dict(theirs.named_parameters())
    kinds = {"g": "weight", "w": "weight", "b": "bias", "wte": "wte.weight", "wpe": "wpe.weight"}
    for index, row in enumerate(name_map(config)):
        *path, last = row.variable.removeprefix("model/").split("/")
        path = [f"h.{part[1:]}" if part[1:].isdigit() else part for part in path]
        parameter = parameters.pop(".".join(["transformer", *path, kinds[last]]))
        with torch.no_grad():
            parameter.copy_(draw(index, row).reshape(parameter.shape))
    assert not parameters
    return theirs


if __name__ == "__main__":
    main()
