"""Training compared with nanoGPT and `transformers`, taking turns in one run.

    python benchmarks/train.py characters --text tinyshakespeare.txt --nanogpt DIR [--rounds N]
    python benchmarks/train.py step --nanogpt DIR [--rounds N] [--size 124M]

DIR is a checkout of https://github.com/karpathy/nanoGPT, which is copied and not changed.

`characters` runs nanoGPT's CPU configuration for tiny Shakespeare from start to end, as processes:
the same size, text, batch and iterations, with our preset's learning rates, and with fewer
iterations; each round uses another seed for ours. nanoGPT estimates its validation loss from 20
random batches; ours is over the whole split.

`step` times optimizer steps of a GPT-2 on random tokens, bf16 autocast or --precision float32,
everything from the batch to the update. Each contender has its own process, so that its peak
memory is its own.
"""

from __future__ import annotations

import argparse
import json
import pickle
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch

from gpt2.temporary import temp_folder

NANOGPT_CPU = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 "
    "--log_interval=100 --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 "
    "--max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)
OURS = {
    "ours, the preset": (),
    "ours, 1,900 iterations": ("--steps", "1900"),
    "ours, 1,200 iterations": ("--steps", "1200"),
}
CONTENDERS = ("ours", "ours, LoRA", "nanoGPT", "nanoGPT, compiled", "transformers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, command in (("characters", characters), ("step", step), ("serve", serve)):
        sub = commands.add_parser(name)
        sub.set_defaults(command=command)
        sub.add_argument("--nanogpt", type=Path, required=True, metavar="DIR")
        sub.add_argument("--rounds", type=int, default=3)
        sub.add_argument("--text", type=Path)
        sub.add_argument("--preset", default="shakespeare-char-cpu")
        sub.add_argument("--size", default="124M")
        sub.add_argument("--batch", type=int, default=4)
        sub.add_argument("--block", type=int, default=256)
        sub.add_argument("--precision", default="bfloat16", choices=("bfloat16", "float32"))
        sub.add_argument("--contender", choices=CONTENDERS)
        sub.add_argument("--only", choices=CONTENDERS, action="append")
    options = parser.parse_args()
    options.command(options)


def machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    python = f"Python {platform.python_version()}"
    return f"{model}, {torch.get_num_threads()} threads, {python}, {packages}"


def characters(options: argparse.Namespace) -> None:
    print(machine())
    rows: dict[str, list[tuple[float, float]]] = {"nanoGPT": [], **{name: [] for name in OURS}}
    with temp_folder() as folder:
        nanogpt = folder / "nanogpt"
        shutil.copytree(options.nanogpt, nanogpt, ignore=shutil.ignore_patterns(".git"))
        _prepare_nanogpt(nanogpt, options.text)
        for number in range(options.rounds):
            rows["nanoGPT"].append(_run_nanogpt(nanogpt))
            for name, flags in OURS.items():
                out = folder / f"{number}, {name}"
                rows[name].append(_run_ours(options, out, "--seed", str(number), *flags))
            print(number, {name: runs[-1] for name, runs in rows.items()}, flush=True)
    print("| | seconds | / nanoGPT | validation loss |\n|---|---|---|---|")
    for name, runs in rows.items():
        seconds, losses = zip(*runs)
        ratio = statistics.median(s / t for s, (t, _) in zip(seconds, rows["nanoGPT"]))
        loss = statistics.median(losses)
        print(f"| {name} | {statistics.median(seconds):.1f} | {ratio:.2f} | {loss:.4f} |")


def _prepare_nanogpt(folder: Path, text: Path) -> None:
    """What nanoGPT's prepare.py writes, from a local file."""
    content = text.read_text()
    itos = dict(enumerate(sorted(set(content))))
    stoi = {character: index for index, character in itos.items()}
    ids = np.array([stoi[character] for character in content], dtype=np.uint16)
    data = folder / "data" / "shakespeare_char"
    ids[: int(0.9 * len(ids))].tofile(data / "train.bin")
    ids[int(0.9 * len(ids)) :].tofile(data / "val.bin")
    meta = {"vocab_size": len(itos), "itos": itos, "stoi": stoi}
    (data / "meta.pkl").write_bytes(pickle.dumps(meta))


def _run_ours(options: argparse.Namespace, out: Path, *more: str) -> tuple[float, float]:
    command = ["-m", "train", "run", "--data", options.text.resolve(), "--preset", options.preset]
    command += more
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, command), "--out", str(out), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return seconds, lines[-1]["validation_loss"]


def _run_nanogpt(folder: Path) -> tuple[float, float]:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "train.py", *NANOGPT_CPU.split()],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    losses = re.findall(r"val loss ([\d.]+)", done.stdout)
    return seconds, float(losses[-1])


def step(options: argparse.Namespace) -> None:
    print(machine())
    names = options.only or CONTENDERS
    servers = {name: _Server(name, options) for name in names}
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name, server in servers.items():
            speeds[name].append(server.ask()["speed"])
    peaks = {name: server.close() for name, server in servers.items()}
    print("| | tokens/s | ours / this (median of rounds) | peak MB |\n|---|---|---|---|")
    for name in names:
        ratio = statistics.median(a / b for a, b in zip(speeds[names[0]], speeds[name]))
        print(
            f"| {name} | {statistics.median(speeds[name]):.0f} | {ratio:.2f} | {peaks[name]:.0f} |"
        )


class _Server:
    def __init__(self, name: str, options: argparse.Namespace) -> None:
        command = ["serve", "--contender", name, "--nanogpt", options.nanogpt]
        command += ["--size", options.size, "--batch", options.batch, "--block", options.block]
        command += ["--precision", options.precision]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *map(str, command)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.answer()

    def ask(self) -> dict:
        print("go", file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict:
        return json.loads(self.process.stdout.readline())

    def close(self) -> float:
        self.process.stdin.close()
        peak = self.answer()["peak_mb"]
        self.process.wait()
        return peak


def serve(options: argparse.Namespace) -> None:
    """One contender: three steps at every "go", the median speed as the answer."""
    make = {
        "ours": _ours,
        "ours, LoRA": lambda o: _ours(o, lora_rank=8),
        "nanoGPT": _nanogpt,
        "nanoGPT, compiled": lambda o: _nanogpt(o, compiled=True),
        "transformers": _transformers,
    }[options.contender]
    run = make(options)
    run()  # also compiles
    print(json.dumps({}), flush=True)
    for _ in sys.stdin:
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
        speed = options.batch * options.block / statistics.median(seconds)
        print(json.dumps({"speed": speed}), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_mb": peak}), flush=True)


def _ours(options: argparse.Namespace, **changes: object) -> Callable[[], None]:
    """The trainer's own step, on a corpus of random tokens."""
    from gpt2.model import GPT2, SIZES
    from gpt2.tokenizer import gpt2_tokenizer
    from train.config import TrainConfig
    from train.data import Corpus, Report
    from train.distributed import World
    from train.lora import add_lora
    from train.run_folder import RunFolder
    from train.trainer import Trainer

    config = TrainConfig(
        batch_size=options.batch,
        micro_batch_size=options.batch,
        block_size=options.block,
        precision=options.precision,
        **changes,
    )
    model = GPT2(SIZES[options.size])
    if config.lora_rank:
        add_lora(model, config)
    tokens = np.random.default_rng(0).integers(0, 50257, 1_000_000).astype(np.uint16)
    corpus = Corpus(tokens, tokens[:0], gpt2_tokenizer(), Report({}, 1, len(tokens), 0))
    return Trainer(model, corpus, config, RunFolder("unused"), World())._step


def _nanogpt(options: argparse.Namespace, compiled: bool = False) -> Callable[[], None]:
    """nanoGPT's step, as its train.py and bench.py make it."""
    sys.path.insert(0, str(options.nanogpt))
    from model import GPT, GPTConfig

    from gpt2.model import SIZES

    size = SIZES[options.size]
    shape = {"n_layer": size.n_layer, "n_head": size.n_head, "n_embd": size.n_embd}
    with redirect_stdout(sys.stderr):  # it prints its parameter counts; stdout is for the answers
        model = GPT(GPTConfig(block_size=1024, vocab_size=50257, bias=True, dropout=0.0, **shape))
        optimizer = model.configure_optimizers(0.1, 5e-5, (0.9, 0.95), "cpu")
    forward = torch.compile(model) if compiled else model
    return _stepper(options, model, optimizer, lambda x, y: forward(x, y)[1])


def _transformers(options: argparse.Namespace) -> Callable[[], None]:
    from transformers import GPT2Config, GPT2LMHeadModel

    from gpt2.model import SIZES

    size = SIZES[options.size]
    shape = {"n_layer": size.n_layer, "n_head": size.n_head, "n_embd": size.n_embd}
    pdrop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(**shape, **pdrop)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    return _stepper(options, model, optimizer, lambda x, y: model(x, labels=x).loss)


def _stepper(options, model, optimizer, loss_of) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)

    def run() -> None:
        shape = (options.batch, options.block + 1)
        rows = torch.randint(0, 50257, shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            loss = loss_of(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return run


if __name__ == "__main__":
    main()
