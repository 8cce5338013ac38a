"""Which operations compute a row bit for bit alike, alone and among others, on this machine.

    python benchmarks/row_independence.py [--threads 1 2] [--markdown FILE]

A row alone is repeated to 4, as `gpt2.prepack` does; a cell names the numbers of rows, from 1 to 64
and some more, for which some row came out with other bits. `gpt2.decode` relies on the packed
products and the layer norm up to 32 rows, and tries those products itself when a model is loaded;
`gpt2.sampling_rows` relies on `topk`, `softmax` and running sums.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.nn import functional as F

from gpt2.prepack import MIN_ROWS, PackedLinear

COUNTS = [*range(1, 65), 100, 128, 192, 256]
# (in, out): the products of the storyteller and of 124M, and one that fits no vector.
SHAPES = ((256, 768), (1024, 256), (256, 8192), (768, 2304), (3072, 768), (24, 97))
Operation = Callable[[Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write it to this file")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    report = [
        f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, PyTorch "
        f"{torch.__version__}; numbers of rows whose bits differ from those of a row alone.",
        "",
        "| operation | " + " | ".join(f"{n} threads" for n in options.threads) + " |",
        "|---|" + "---|" * len(options.threads),
    ]
    for name, x, operation in operations():
        cells = [differing(x, operation, threads) for threads in options.threads]
        report.append(f"| {name} | " + " | ".join(cells) + " |")
        print(report[-1], file=sys.stderr)
    print("\n".join(report))
    if options.markdown:
        options.markdown.write_text("\n".join(report) + "\n", encoding="utf-8")


def operations() -> Iterator[tuple[str, Tensor, Operation]]:
    """Name, rows, and what is done with them."""
    noise = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=noise)

    for dtype in (torch.float32, torch.bfloat16):
        kind = str(dtype).removeprefix("torch.")
        for n_in, n_out in SHAPES:
            weight, bias = random(n_out, n_in).to(dtype), random(n_out).to(dtype)
            x, of = random(256, n_in).to(dtype), f"{kind} {n_in} to {n_out}"
            yield f"packed product, {of}", x, PackedLinear(weight, bias)
            yield f"packed product and GELU, {of}", x, PackedLinear(weight, bias, gelu="tanh")
            yield f"F.linear, {of}", x, lambda x, w=weight, b=bias: F.linear(x, w, b)
            stored = weight.t().contiguous()
            yield f"x @ (in, out), {of}", x, lambda x, w=stored, b=bias: F.linear(x, w.t(), b)
        x, scale = random(256, 768).to(dtype), random(768).to(dtype)
        yield f"layer norm, {kind}", x, lambda x, w=scale: F.layer_norm(x, x.shape[1:], w, w)
        yield f"GELU, {kind} 768", x, lambda x: F.gelu(x, approximate="tanh")
        yield f"GELU, {kind} 30", x[:, :30].contiguous(), lambda x: F.gelu(x, approximate="tanh")
    for length in (1, 31, 80, 256, 1000):
        x, keys = random(256, 4 * 64), random(2, 1, 4, length, 64)
        yield f"attention over {length}, rows at once", x, lambda x, k=keys: attend(x, k)
    logits = random(256, 8192)
    yield (
        "the 40 likeliest",
        logits,
        lambda x: torch.stack(tuple(map(Tensor.double, x.topk(40))))[0],
    )
    yield "softmax of 40, float64", logits[:, :40].double(), lambda x: x.softmax(1)
    yield "running sum of 40, float64", logits[:, :40].double(), lambda x: x.cumsum(1)


def attend(x: Tensor, keys: Tensor) -> Tensor:
    """Each row (4 heads of 64) over the same keys and values (2, 1, H, S, D)."""
    query = x.view(-1, 4, 1, 64)
    key, value = keys.expand(2, len(x), *keys.shape[2:]).contiguous()
    return F.scaled_dot_product_attention(query, key, value).reshape(len(x), -1)


def differing(x: Tensor, operation: Operation, threads: int) -> str:
    """The counts of rows, as "none" or "33-64, 128"."""
    torch.set_num_threads(threads)
    alone = torch.cat([operation(row.expand(MIN_ROWS, -1).contiguous())[:1] for row in x[:, None]])
    wrong = []
    for count in COUNTS:
        given = x[:count] if count >= MIN_ROWS else x[:1].expand(MIN_ROWS, -1)
        expected = alone[:count] if count >= MIN_ROWS else alone[:1].expand(MIN_ROWS, -1)
        if not torch.equal(operation(given.contiguous()), expected):
            wrong.append(count)
    return ", ".join(ranges(wrong)) or "none"


def ranges(numbers: list[int]) -> Iterator[str]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return (str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


if __name__ == "__main__":
    main()
