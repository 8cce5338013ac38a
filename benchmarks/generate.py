"""How fast this project and `transformers` generate on a CPU, greedily and with a cache.

    python benchmarks/generate.py --size 124M --rounds 7 [--markdown FILE]

Three contenders per number format: the plain model, the prepacked one that generation uses, and
`transformers`' own `generate`; beside those in bfloat16 also ours with weights of eight bits. All
read one folder of random weights (speed does not depend on the values), get the same prompt, use
the same number of threads, and must agree in float32 on every token. Each has its own process, so
that its peak memory is its own. Within a round they take turns, so that a slow moment of the
machine affects all; ratios are taken per round, then the median.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from gpt2.folder import load_model, save_model
from gpt2.generate import generate_tokens
from gpt2.inference import load_for_inference
from gpt2.model import GPT2, SIZES
from gpt2.prepack import PackedGPT2, prepack
from gpt2.sampling import Sampling
from gpt2.temporary import temp_folder
from gpt2.tokenizer import gpt2_tokenizer

CONTENDERS = ("ours, plain", "ours, prepacked", "transformers")
INT8 = "ours, int8 weights"  # beside those in bfloat16: of two formats, the smaller one each
PROMPT, NEW, LONG_PROMPT = 64, 128, 512  # tokens

# Ids of a prompt and the number of new tokens -> the new ids and the moment of each.
Generate = Callable[[list[int], int], tuple[list[int], list[float]]]


@dataclass(frozen=True)
class Measurement:
    decode: float  # tokens per second from the first new token to the last
    prefill: float  # tokens per second of a long prompt, until its first new token
    tokens: list[int]
    peak_mb: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="124M")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), action="append")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="also write the table to this file"
    )
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)  # a contender's own process
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.serve:
        serve(*options.serve)
        return
    report = [describe_machine(options), "", *table_head()]
    with temp_folder() as folder:
        torch.manual_seed(0)
        save_model(folder, GPT2(SIZES[options.size]), gpt2_tokenizer())
        for dtype in options.dtype or ("float32", "bfloat16"):
            rounds = measure(folder, dtype, options)
            if dtype == "float32":
                check_same_tokens(rounds)
            report += table_rows(dtype, rounds)
    print("\n".join(report))
    if options.markdown:
        options.markdown.write_text("\n".join(report) + "\n", encoding="utf-8")


def measure(folder: str, dtype: str, options: argparse.Namespace) -> list[dict[str, Measurement]]:
    """The measurements of all contenders, round by round, after a warm-up round."""
    base = [sys.executable, __file__, "--threads", str(options.threads), "--serve"]
    processes = {
        name: subprocess.Popen(
            [*base, name, dtype, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in (*CONTENDERS, *([INT8] if dtype == "bfloat16" else []))
    }
    rounds = []
    try:
        for index in range(options.rounds + 1):
            taken = {name: ask(process) for name, process in processes.items()}
            progress = "  ".join(f"{name} {m.decode:.1f}" for name, m in taken.items())
            print(f"{dtype} round {index or 'to warm up'}: {progress}", file=sys.stderr)
            rounds.append(taken)
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait()
    return rounds[1:]


def ask(process: subprocess.Popen[str]) -> Measurement:
    process.stdin.write("go\n")
    process.stdin.flush()
    if not (line := process.stdout.readline()):
        raise SystemExit("a contender's process ended early; its error is above")
    return Measurement(**json.loads(line))


def serve(contender: str, dtype: str, folder: str) -> None:
    """One contender: load the model, then measure once for every line on stdin."""
    make = transformers_generate if contender == "transformers" else own_generate
    generate = make(contender, folder, getattr(torch, dtype))
    ids = torch.randint(50257, (LONG_PROMPT,), generator=torch.Generator().manual_seed(0)).tolist()
    for _ in sys.stdin:
        tokens, moments = generate(ids[:PROMPT], NEW)
        decode = (NEW - 1) / (moments[-1] - moments[0])
        began = time.perf_counter()
        _, moments = generate(ids, 1)
        prefill = LONG_PROMPT / (moments[0] - began)
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 10**6
        print(json.dumps(vars(Measurement(decode, prefill, tokens, peak))), flush=True)


def own_generate(contender: str, folder: str, dtype: torch.dtype) -> Generate:
    if contender == INT8:
        model, _ = load_for_inference(folder, "cpu", "int8")
    else:
        model, _ = load_model(folder, "cpu", dtype)
    if contender == "ours, prepacked":
        model = prepack(model)
        if not isinstance(model, PackedGPT2):
            raise SystemExit(f"this machine has no prepacked products in {dtype}")

    def generate(ids: list[int], count: int) -> tuple[list[int], list[float]]:
        greedy = Sampling(temperature=0, repetition_penalty=1, max_new_tokens=count)
        tokens, moments = [], []
        for token in generate_tokens(model, ids, greedy):
            tokens.append(token)
            moments.append(time.perf_counter())
        return tokens, moments

    return generate


def transformers_generate(contender: str, folder: str, dtype: torch.dtype) -> Generate:
    from transformers import AutoModelForCausalLM
    from transformers.generation.streamers import BaseStreamer

    class Clock(BaseStreamer):
        """Called with the prompt and then with every token."""

        def __init__(self) -> None:
            self.moments: list[float] = []

        def put(self, value: torch.Tensor) -> None:
            self.moments.append(time.perf_counter())

        def end(self) -> None:
            pass

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    model.generation_config.eos_token_id = None  # all contenders generate the full number
    model.generation_config.pad_token_id = 0

    def generate(ids: list[int], count: int) -> tuple[list[int], list[float]]:
        clock, prompt = Clock(), torch.tensor([ids])
        with torch.inference_mode():
            out = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=count,
                do_sample=False,
                streamer=clock,
            )
        return out[0, len(ids) :].tolist(), clock.moments[1:]

    return generate


def check_same_tokens(rounds: list[dict[str, Measurement]]) -> None:
    for taken in rounds:
        if any(taken[name].tokens != taken[CONTENDERS[0]].tokens for name in CONTENDERS):
            raise SystemExit("the contenders do not generate the same tokens in float32")


def table_head() -> list[str]:
    names = ("", "decode tok/s", "× transformers", "prefill tok/s", "× transformers", "peak MB")
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def table_rows(dtype: str, rounds: list[dict[str, Measurement]]) -> Iterable[str]:
    for name in rounds[0]:
        cells = [f"{name}, {dtype}"]
        for figure in ("decode", "prefill"):
            values = [getattr(taken[name], figure) for taken in rounds]
            peers = [getattr(taken["transformers"], figure) for taken in rounds]
            ratio = statistics.median(value / peer for value, peer in zip(values, peers))
            cells += [f"{statistics.median(values):.4g}", f"{ratio:.2f}"]
        cells.append(str(max(taken[name].peak_mb for taken in rounds)))
        yield "| " + " | ".join(cells) + " |"


def describe_machine(options: argparse.Namespace) -> str:
    cpu = platform.processor() or platform.machine()
    if (information := Path("/proc/cpuinfo")).is_file():
        rows = information.read_text().splitlines()
        cpu = next((row.partition(": ")[2] for row in rows if row.startswith("model name")), cpu)
    return (
        f"GPT-2 {options.size}, random weights, batch 1, greedy; decode {PROMPT} + {NEW} tokens, "
        f"prefill {LONG_PROMPT}; medians of {options.rounds} rounds. {cpu}, {options.threads} "
        f"threads; Python {platform.python_version()}, torch {version('torch')}, transformers "
        f"{version('transformers')}."
    )


if __name__ == "__main__":
    main()
