"""Libraries that could replace our own code, weighed: python benchmarks/libraries.py [--rounds 5]

Head and loss: one forward and backward of 4 x 256 positions with GPT-2's head (50,257 x 768), ours
(`train/loss.py`) and `torch.nn.functional.linear_cross_entropy`, each in a process of its own, in
turn; the error of the hidden gradient is against float64. Imports: what a library would add to the
startup of a process that has PyTorch, each in a fresh process, median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
ROWS, WIDTH, VOCABULARY = 1024, 768, 50257
LOSSES = (
    "ours",
    "plain",
    "linear_cross_entropy",
    "linear_cross_entropy, chunks of 256",
    "linear_cross_entropy, chunks of 256, inputs cast",
)
IMPORTS = {
    "torch.distributed.checkpoint.state_dict": "import torch.distributed.checkpoint.state_dict",
    "huggingface_hub.ModelCard and jinja2": "import huggingface_hub.repocard, jinja2",
    "filelock": "import filelock",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loss", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loss:
        print(json.dumps(measure_loss(options.loss, options.dtype)))
        return
    for dtype in ("float32", "bfloat16"):
        compare_losses(options.rounds, dtype)
    compare_imports(options.rounds)


def compare_losses(rounds: int, dtype: str) -> None:
    print(f"| head and loss, {dtype} | ms | x ours | peak MB | error of the gradient |")
    print("|---|---|---|---|---|")
    found: dict[str, list[dict]] = {name: [] for name in LOSSES}
    for _ in range(rounds):
        for name in LOSSES:
            command = [sys.executable, __file__, "--loss", name, "--dtype", dtype]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
            found[name].append(json.loads(done.stdout))
    for name, results in found.items():
        times = [result["seconds"] for result in results]
        ratios = [a / b["seconds"] for a, b in zip(times, found["ours"])]
        peak = median(result["peak_mb"] for result in results)
        error = results[0]["error"]
        row = f"{1000 * median(times):.0f} | {median(ratios):.2f} | {peak:.0f} | {error:.1e}"
        print(f"| {name} | {row} |")


def measure_loss(name: str, dtype: str) -> dict:
    import torch
    from torch.nn import functional as F

    from train.loss import _HeadLoss

    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, requires_grad=True)
    weight = (0.02 * torch.randn(VOCABULARY, WIDTH)).requires_grad_()
    targets = torch.randint(VOCABULARY, (ROWS,))

    def chunked(h, w, t):
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=256)
        return F.linear_cross_entropy(h, w, t, reduction="sum", options=options)

    def cast(h, w, t):  # the chunked path does not see autocast
        kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        return chunked(h.to(kind), w.to(kind), t)

    loss = {
        "ours": _HeadLoss.apply,
        "plain": lambda h, w, t: F.cross_entropy(F.linear(h, w), t, reduction="sum"),
        "linear_cross_entropy": lambda h, w, t: F.linear_cross_entropy(h, w, t, reduction="sum"),
        "linear_cross_entropy, chunks of 256": chunked,
        "linear_cross_entropy, chunks of 256, inputs cast": cast,
    }[name]

    def step() -> None:
        hidden.grad = weight.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            value = loss(hidden, weight, targets)
        value.backward()

    step()
    times = []
    for _ in range(3):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"seconds": median(times), "peak_mb": peak, "error": _error(hidden, weight, targets)}


def _error(hidden, weight, targets) -> float:
    """The error of `hidden.grad`, relative to the largest value of the float64 gradient."""
    import torch
    from torch.nn import functional as F

    exact = hidden.detach().double()[:64].requires_grad_()
    logits = F.linear(exact, weight.detach().double())
    F.cross_entropy(logits, targets[:64], reduction="sum").backward()
    difference = (hidden.grad[:64].double() - exact.grad).abs().max() / exact.grad.abs().max()
    return float(torch.as_tensor(difference))


def compare_imports(rounds: int) -> None:
    print("| import, after torch | ms |\n|---|---|")
    for name, code in IMPORTS.items():
        timed = f"import time, torch; t = time.perf_counter(); {code}; print(time.perf_counter()-t)"
        times = []
        for _ in range(rounds):
            command = [sys.executable, "-c", timed]
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
            times.append(float(done.stdout) if done.returncode == 0 else float("nan"))
        print(f"| {name} | {1000 * median(times):.0f} |")


if __name__ == "__main__":
    main()
