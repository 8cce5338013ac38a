"""A hundred openings that nobody picked, continued by models and judged by a rule.

    python benchmarks/openings.py VALID --model NAME [--model NAME] [--show 10]
        [--repetition-penalty 1]

The openings are cut from held-out books, the same number from each, evenly spaced: of a paragraph
that names a person of the book, the first words. Each model continues each at the default settings,
opening k with seed k. The judge sees an opening and a continuation, and never whose it is; the
books' own way on is judged, too, so that the shares have a measure.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = str(ROOT / "benchmarks")
sys.path[:] = [str(ROOT), BENCHMARKS, *(path for path in sys.path if path != BENCHMARKS)]

from prose import persons_in, repeated_runs, sentences_of, words_of

from gpt2.generate import generate_text
from gpt2.inference import load_for_inference
from gpt2.sampling import Sampling
from gpt2.text import TextFile, read_documents

BOOKS = "the books themselves"
WORDS = 25  # of an opening
KNOWN = 10  # times that a book names a person of it
SOON = 40  # words within which the sentence that the opening begins has to end
REST = 75  # words, about 100 tokens
LOOP = 5  # words in a row that must not come twice
COMMON = 300  # most frequent words of the books, which say nothing about a topic


@dataclass(frozen=True)
class Opening:
    text: str
    person: str
    topic: frozenset[str]  # stems of its content words
    rest: str = ""  # how the book itself goes on, as long as a model's continuation


@dataclass(frozen=True)
class Judgment:
    on_topic: bool  # a content word of the opening comes again
    keeps_the_person: bool  # by name
    no_loop: bool
    ends_the_sentence: bool

    @property
    def passes(self) -> bool:
        return all(getattr(self, field.name) for field in fields(self))


def judge(opening: Opening, continuation: str) -> Judgment:
    said = {stem(word) for word in words_of(continuation)}
    first = sentences_of(continuation)[:1]
    return Judgment(
        on_topic=bool(said & opening.topic),
        keeps_the_person=opening.person in words_of(continuation.replace("'s", "")),
        no_loop=repeated_runs(continuation, LOOP) == 0,
        ends_the_sentence=bool(first) and len(words_of(first[0])) <= SOON,
    )


def stem(word: str) -> str:
    """The first letters: "rode" is not "riding", but "kings" is "king" where both are short."""
    return word.casefold().removesuffix("'s").removesuffix("s")[:6]


def openings_from(books: list[str], count: int) -> list[Opening]:
    """An equal share of `count` from each book, evenly spaced over what can be one there."""
    common = Counter(word.casefold() for book in books for word in words_of(book))
    frequent = {word for word, _ in common.most_common(COMMON)}
    found = []
    for index, book in enumerate(books):
        share = count * (index + 1) // len(books) - count * index // len(books)
        possible = list(_openings_of(book, frequent))
        found += [possible[len(possible) * k // share] for k in range(share)]
    return found


def _openings_of(book: str, frequent: set[str]) -> Iterator[Opening]:
    persons = persons_in(book, KNOWN)
    for match in re.finditer("[^\n]+", book):
        paragraph = match[0]
        cut = list(re.finditer(r"\S+", paragraph))[: WORDS + 1]
        text = paragraph[: cut[WORDS - 1].end()] if len(cut) > WORDS else ""
        named = [word for word in words_of(text.replace("'s", "")) if word in persons]
        if named and text[-1].isalpha():
            content = {w for w in words_of(text) if len(w) > 3 and w.casefold() not in frequent}
            behind = book[match.start() + len(text) :]
            rest = re.match(rf"(\s*\S+){{,{REST}}}", behind)[0]
            topic = frozenset(map(stem, content)) - {stem(named[0])}
            yield Opening(text, named[0], topic, rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("valid", type=Path)
    parser.add_argument("--model", action="append", required=True, metavar="NAME")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--show", type=int, default=0, help="print so many of each, evenly spaced")
    parser.add_argument("--repetition-penalty", type=float, help="not the default one")
    options = parser.parse_args()
    penalty = options.repetition_penalty
    sampling = Sampling() if penalty is None else Sampling(repetition_penalty=penalty)
    openings = openings_from(list(read_documents(TextFile(options.valid))), options.count)
    texts = {name: list(_continued(name, openings, sampling)) for name in options.model}
    texts[BOOKS] = [opening.rest for opening in openings]
    print_table(openings, texts)
    if options.show:
        del texts[BOOKS]
        for number in range(0, options.count, options.count // options.show):
            show(number + 1, openings[number], {name: all_[number] for name, all_ in texts.items()})


def _continued(name: str, openings: list[Opening], sampling: Sampling) -> Iterator[str]:
    model, tokenizer = load_for_inference(name)
    for seed, opening in enumerate(openings, 1):
        seeded = replace(sampling, seed=seed)
        yield "".join(generate_text(model, tokenizer, opening.text, seeded))


def print_table(openings: list[Opening], texts: dict[str, list[str]]) -> None:
    names = [field.name for field in fields(Judgment)] + ["passes"]
    print("| | " + " | ".join(name.replace("_", " ") for name in names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for model, continuations in texts.items():
        judged = [judge(*pair) for pair in zip(openings, continuations, strict=True)]
        counts = (sum(getattr(one, name) for one in judged) for name in names)
        print(f"| {model} | " + " | ".join(map(str, counts)) + " |")


def show(number: int, opening: Opening, texts: dict[str, str]) -> None:
    """An opening and what follows, in Markdown as in the model's card."""
    print(f"\nOpening {number}:\n")
    for name, text in texts.items():
        lines = f"**{opening.text}**{text}".strip().splitlines()
        print(f"{name}:\n\n" + "\n".join(f"> {line}".rstrip() for line in lines) + "\n")


if __name__ == "__main__":
    main()
