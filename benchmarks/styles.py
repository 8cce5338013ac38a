"""What the styles of the Write tab and the ways to begin do to what a model writes.

    python benchmarks/styles.py VALID [--model NAME] [--count 36] [--tokens 200]

Styles: `--count` samples of each, an equal share from each opening of the tab and from the model's
default prompt, seeds 1, 2, 3 ...; beside them, passages of the same length from the held-out books.
Beginnings: what comes of no prompt at all, the bare end of a text, and of the default prompt.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = str(ROOT / "benchmarks")
sys.path[:] = [str(ROOT), BENCHMARKS, *(path for path in sys.path if path != BENCHMARKS)]

from prose import (
    begins_with_a_sentence,
    ends_a_sentence,
    repeated_runs,
    sentences_of,
    words_of,
)

from gpt2.folder import read_default_prompt
from gpt2.generate import generate_pieces
from gpt2.hub.resolve import resolve
from gpt2.inference import load_for_inference
from gpt2.model import GPT2
from gpt2.sampling import MAX_SAMPLES, Sampling
from gpt2.text import TextFile, read_documents
from gpt2.tokenizer import Tokenizer
from ui.write.controls import STYLES
from ui.write.view import STORY_OPENINGS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("valid", type=Path)
    parser.add_argument("--model", default="storyteller", metavar="NAME")
    parser.add_argument("--count", type=int, default=36)
    parser.add_argument("--tokens", type=int, default=200)
    options = parser.parse_args()
    model, tokenizer = load_for_inference(options.model)
    default = read_default_prompt(resolve(options.model))
    print("| | trigrams again | words a sentence | ends a sentence |\n|---|---|---|---|")
    prompts = (*STORY_OPENINGS, default)
    for name, style in STYLES.items():
        sampling = replace(style, max_new_tokens=options.tokens)
        print_row(name, list(write(model, tokenizer, prompts, options.count, sampling)))
    books = list(read_documents(TextFile(options.valid)))
    print_row("held-out books", list(passages(books, tokenizer, options.count, options.tokens)))
    print("\n| no prompt | begins with a sentence | begins with a quotation mark |\n|---|---|---|")
    for name, prompt in (("bare end of text", ""), (f"default: {default!r}", default)):
        sampling = Sampling(max_new_tokens=60)
        texts = [prompt + t for t in write(model, tokenizer, (prompt,), options.count, sampling)]
        well = sum(map(begins_with_a_sentence, texts)) / len(texts)
        quoted = sum(text.lstrip()[:1] in "\"'“‘" for text in texts) / len(texts)
        print(f"| {name} | {well:.0%} | {quoted:.0%} |")


def write(
    model: GPT2, tokenizer: Tokenizer, prompts: tuple[str, ...], count: int, sampling: Sampling
) -> Iterator[str]:
    """`count` continuations, an equal share of each prompt's."""
    for index, prompt in enumerate(prompts):
        first, end = (count * k // len(prompts) + 1 for k in (index, index + 1))
        for seed in range(first, end, MAX_SAMPLES):
            together = replace(sampling, seed=seed, samples=min(MAX_SAMPLES, end - seed))
            texts = [""] * together.samples
            for piece in generate_pieces(model, tokenizer, prompt, together):
                texts[piece.sample] += piece.text
            yield from texts


def passages(books: list[str], tokenizer: Tokenizer, count: int, tokens: int) -> Iterator[str]:
    """Passages of people's own, evenly spaced and cut as samples are."""
    ids = tokenizer.encode("".join(books))
    for index in range(count):
        start = len(ids) * index // count
        yield tokenizer.decode(ids[start : start + tokens])


def print_row(name: str, texts: list[str]) -> None:
    again = statistics.mean(repeated_runs(text, 3) for text in texts)
    lengths = [len(words_of(sentence)) for text in texts for sentence in sentences_of(text)]
    ended = sum(map(ends_a_sentence, texts)) / len(texts)
    mean = statistics.mean(lengths) if lengths else 0.0
    print(f"| {name} | {again:.1%} | {mean:.1f} | {ended:.0%} |", flush=True)


if __name__ == "__main__":
    main()
