"""Every figure about the bundled model, each from one command.

    python benchmarks/storyteller.py clean TEXT OUT
    python benchmarks/storyteller.py score VALID [--text TEXT]
    python benchmarks/storyteller.py memorized TEXT [--count 100]
    python benchmarks/storyteller.py slurs [--count 500]
    python benchmarks/storyteller.py samples [--count 20] [--tokens 60]
    python benchmarks/storyteller.py speed
    python benchmarks/storyteller.py finetune
    python benchmarks/storyteller.py compare TEXT VALID [--nanogpt DIR] [--steps N] [--rate R]

`clean` writes the text of the books without headings, on which it was trained: stories.txt, here
TEXT; VALID are the held-out books; .xz files are unpacked. `score`, `memorized`, `slurs`,
`samples` and `finetune` take --model NAME, several times to compare models in one run.
DIR is a checkout of https://github.com/karpathy/nanoGPT; without it `compare` trains ours.

Samples are drawn at the default settings with seeds 1, 2, 3 ..., an equal share from each of
the Write tab's openings and from no prompt, the model's default one; none is left out.
"""

from __future__ import annotations

import argparse
import json
import lzma
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = str(ROOT / "benchmarks")
# The root first: here `train` is the package, not the benchmark of that name.
sys.path[:] = [str(ROOT), BENCHMARKS, *(path for path in sys.path if path != BENCHMARKS)]

from headings import clean_file
from slurs import listed_hashes, listed_words

from gpt2.folder import load_model, read_default_prompt
from gpt2.generate import generate_pieces
from gpt2.hub.resolve import resolve
from gpt2.inference import load_for_inference
from gpt2.sampling import MAX_SAMPLES, Sampling
from gpt2.score import Measure, score_texts
from gpt2.temporary import temp_folder
from gpt2.text import TextFile, read_documents
from ui.write.view import STORY_OPENINGS

MODEL = "storyteller"
LIMIT = 60  # characters that a sample may share with the training text
SAMPLE_TEXT = ROOT / "ui" / "assets" / "sample_text.txt"
# A fine-tune of half a minute on 2 cores: short blocks that overlap, small steps, and a rate that
# does not cost the model its English.
TASTE = {
    "steps": 60,
    "batch-size": 8,
    "block-size": 128,
    "stride": 32,
    "learning-rate": 5e-4,
    "evaluate-every": 20,
    "sample-every": 0,
    "save-every": 0,
}
_DICTIONARY = 128 << 20  # bytes: more than all of the training text


@dataclass(frozen=True)
class Sample:
    seed: int
    prompt: str
    text: str  # what follows the prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)

    def add(command, *files: str, **defaults: int) -> argparse.ArgumentParser:
        sub = commands.add_parser(command.__name__)
        sub.set_defaults(command=command)
        for file in files:
            sub.add_argument(file, type=Path)
        for name, default in defaults.items():
            sub.add_argument(f"--{name}", type=int, default=default)
        return sub

    add(clean, "text", "out")
    held_out = add(score, "valid")
    held_out.add_argument("--text", type=Path)
    compared = [
        held_out,
        add(memorized, "text", count=100, tokens=200),
        add(slurs, count=500, tokens=200),
        add(samples, count=20, tokens=60),
        add(finetune),
    ]
    for sub in compared:
        sub.add_argument("--model", action="append", metavar="NAME", help=f"[{MODEL}]")
    add(speed, rounds=5, tokens=200)
    versus = add(compare, "text", "valid", steps=400)
    versus.add_argument("--nanogpt", type=Path, metavar="DIR")
    versus.add_argument("--rate", type=float, help="the peak learning rate, not the project's own")
    options = parser.parse_args()
    options.models = getattr(options, "model", None) or [MODEL]
    options.command(options)


def draw(name: str, count: int, tokens: int) -> Iterator[Sample]:
    """`count` samples of a model, drawn as the module docstring describes."""
    model, tokenizer = load_for_inference(name)
    prompts = (*STORY_OPENINGS, read_default_prompt(resolve(name)))
    for index, prompt in enumerate(prompts):
        first, end = (count * k // len(prompts) + 1 for k in (index, index + 1))
        for seed in range(first, end, MAX_SAMPLES):
            together = min(MAX_SAMPLES, end - seed)
            sampling = Sampling(max_new_tokens=tokens, seed=seed, samples=together)
            texts = [""] * together
            for piece in generate_pieces(model, tokenizer, prompt, sampling):
                texts[piece.sample] += piece.text
            yield from (Sample(seed + i, prompt, text) for i, text in enumerate(texts))


def clean(options: argparse.Namespace) -> None:
    """The training text of the storyteller from the text of its books."""
    found = clean_file(options.text, options.out)
    kinds = ", ".join(f"{count:,} of {kind}" for kind, count in found.most_common())
    print(f"{found.total():,} headings out: {kinds}")


def score(options: argparse.Namespace) -> None:
    """Bits per byte on held-out text, next to xz on the same bytes."""
    for name in options.models:
        model, tokenizer = load_model(resolve(name))
        measure = Measure().settled(model, overlap=True)
        print(f"{name}: {score_texts(model, tokenizer, [TextFile(options.valid)], measure)}")
    valid = "".join(read_documents(TextFile(options.valid))).encode()
    print(f"xz -9, the text alone: {xz_bits_per_byte(valid):.4f} bits per byte")
    if options.text:
        known = "".join(read_documents(TextFile(options.text))).encode()
        bits = xz_bits_per_byte(valid, known)
        print(f"xz -9, what it adds behind the training text: {bits:.4f} bits per byte")


def xz_bits_per_byte(text: bytes, known: bytes = b"") -> float:
    """What `text` adds to the compressed size of `known`, in bits per byte of `text`.

    Preset 9 remembers 64 MiB. With `known`, that is raised so that all of it can be referred to;
    otherwise the comparison would be with an xz that has forgotten the fairy tales.
    """
    settings = {"preset": 9} | ({"dict_size": _DICTIONARY} if known else {})
    filters = [{"id": lzma.FILTER_LZMA2, **settings}]
    both, before = (len(lzma.compress(data, filters=filters)) for data in (known + text, known))
    return 8 * (both - (before if known else 0)) / len(text)


def memorized(options: argparse.Namespace) -> None:
    """The longest passage of each sample that appears word for word in the training text."""
    from against_nanogpt import story_corpus

    from train.memorization import TrainingText

    for name in options.models:
        corpus = story_corpus(options.text, name)
        text = TrainingText.build(corpus.train, corpus.tokenizer)
        found = []
        for sample in draw(name, options.count, options.tokens):
            passage = text.measure(sample.text).longest
            found.append(len(passage))
            if len(passage) > LIMIT:
                print(f"seed {sample.seed}, {len(passage)} characters: {passage!r}")
        longer = sum(length > LIMIT for length in found)
        print(
            f"{name}: {len(found)} samples of {options.tokens} tokens: {longer} share more than "
            f"{LIMIT} characters with the training text; longest {max(found)}, median "
            f"{statistics.median(found):.0f} (0: less than 8 tokens)"
        )


def slurs(options: argparse.Namespace) -> None:
    """Samples that have a word from slurs.txt."""
    hashes = listed_hashes()
    for name in options.models:
        hits, words = 0, 0
        for sample in draw(name, options.count, options.tokens):
            found = listed_words(sample.prompt + sample.text, hashes)
            words += len(sample.text.split())
            hits += bool(found)
            if found:
                print(f"seed {sample.seed}, prompt {sample.prompt!r}: {len(found)} listed")
        print(f"{name}: {options.count} samples, {words:,} words: {hits} with a listed word")


def samples(options: argparse.Namespace) -> None:
    """Samples in Markdown, as in the model card: those of several models under each seed."""
    drawn = [draw(name, options.count, options.tokens) for name in options.models]
    for together in zip(*drawn, strict=True):
        print(f"Seed {together[0].seed}:\n")
        for name, sample in zip(options.models, together, strict=True):
            begin, text = sample.prompt, sample.text
            words = f"**{begin}**{text}" if begin else f"**(no prompt)** {text.lstrip()}"
            lines = (f"> {line}".rstrip() for line in words.strip().splitlines())
            title = f"{name}:\n\n" if len(together) > 1 else ""
            print(title + "\n".join(lines) + "\n")


def speed(options: argparse.Namespace) -> None:
    """The model alone, then the time from a click to the first words on the page."""
    import torch

    model, tokenizer = load_for_inference(MODEL)
    firsts, rates = [], []
    for seed in range(options.rounds + 1):
        sampling = Sampling(max_new_tokens=options.tokens, seed=seed, stop_at_end_of_text=False)
        started = time.perf_counter()
        pieces = generate_pieces(model, tokenizer, STORY_OPENINGS[0], sampling)
        next(pieces)
        firsts.append(time.perf_counter() - started)
        count = 1 + sum(1 for _ in pieces)
        rates.append(count / (time.perf_counter() - started))
    print(f"{torch.get_num_threads()} threads, {options.rounds} rounds of {options.tokens} tokens")
    print(
        f"first token {statistics.median(firsts[1:]) * 1000:.1f} ms (very first {firsts[0]:.3f} s)"
    )
    print(f"{statistics.median(rates[1:]):.0f} tokens a second, {min(rates[1:]):.0f} the slowest")
    from page_speed import seconds_to_first_words

    presses = seconds_to_first_words(STORY_OPENINGS[0], options.rounds + 1)
    print(
        f"from the press of Generate to the first words on the page: first press {presses[0]:.3f} "
        f"s, then {statistics.median(presses[1:]):.3f} s (median), {max(presses[1:]):.3f} s at most"
    )


def finetune(options: argparse.Namespace) -> None:
    """The sample text with the settings of `TASTE`, as a process from start to end."""
    for name in options.models:
        with temp_folder() as folder:
            _finetune(name, folder / "run")


def _finetune(name: str, out: Path) -> None:
    command = ["-m", "train", "run", "--data", SAMPLE_TEXT, "--model", name, "--out", out]
    command += [word for key, value in TASTE.items() for word in (f"--{key}", value)]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, command), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    losses = {s["step"]: s["validation_loss"] for s in steps if s["validation_loss"]}
    best = min(losses, key=losses.get)
    print(f"{name}: {seconds:.1f} s; held-out loss {losses[0]:.4f}, then {losses[best]:.4f}")
    for written_by in (name, str(out / "model")):
        model, tokenizer = load_for_inference(written_by)
        for prompt in ("January the 5th.", STORY_OPENINGS[0]):
            pieces = generate_pieces(model, tokenizer, prompt, Sampling(seed=1))
            words = prompt + "".join(piece.text for piece in pieces)
            print(f"\n{'before' if written_by == name else 'after'}: {words.strip()}")


def compare(options: argparse.Namespace) -> None:
    """One contender, trained for `--steps` and scored."""
    from against_nanogpt import compare

    result = compare(options.text, options.valid, options.steps, options.nanogpt, options.rate)
    name = "nanoGPT" if options.nanogpt else "ours"
    rate = "its own rate" if options.rate is None else f"peak rate {options.rate:g}"
    print(f"| {name}, {rate} | {options.steps} | {result.bits_per_byte:.4f} | {result.loss:.4f} |")


if __name__ == "__main__":
    main()
