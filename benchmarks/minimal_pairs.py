"""Minimal pairs and a cloze test made from held-out books, for models and for counts of words.

    python benchmarks/minimal_pairs.py VALID TEXT [--model NAME [--model NAME]] [--count 250]

Minimal pairs, as BLiMP has them: a sentence of the books and the same one with a single fault of a
known kind; right is whoever finds the sentence likelier, read from the start of a text. Cloze, as
the Children's Book Test has it: about a hundred words, then a sentence that lacks a name, or its
last noun or verb; the candidates are words of the passage, and right is whoever finds the sentence
likeliest with the one that stood there. `--count` items of each kind, evenly spaced.

TEXT is what the models were trained on: from it come the counts of the baseline, an interpolated
bigram of words. "Most frequent" names the candidate that the passage has most often.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = str(ROOT / "benchmarks")
sys.path[:] = [str(ROOT), BENCHMARKS, *(path for path in sys.path if path != BENCHMARKS)]

import torch
from prose import persons_in, sentences_of, words_of
from torch.nn import functional as F

from gpt2.inference import load_for_inference
from gpt2.model import GPT2
from gpt2.text import TextFile, read_documents
from gpt2.tokenizer import Tokenizer

CONTEXT = 100  # words before the sentence of a cloze item
CHOICES = 5  # candidates at most
COMMON = 300  # most frequent words of the books, which no cloze item asks for
_PAST = {
    "go": "went", "see": "saw", "know": "knew", "come": "came", "take": "took", "give": "gave",
    "say": "said", "think": "thought", "find": "found", "tell": "told", "get": "got",
    "make": "made", "hear": "heard", "speak": "spoke", "leave": "left", "stand": "stood",
}  # fmt: skip
_PARTICIPLES = {
    "gone": "went", "seen": "saw", "taken": "took", "given": "gave", "known": "knew",
    "spoken": "spoke", "done": "did", "fallen": "fell", "begun": "began", "eaten": "ate",
    "written": "wrote", "broken": "broke", "grown": "grew", "risen": "rose", "drawn": "drew",
}  # fmt: skip
_MANY = {"was": "were", "is": "are", "has": "have"}
_SUBJECTS = {"him": "he", "them": "they", "me": "I", "us": "we"}
_HERS = re.compile(r"\b(she|her|hers)\b", re.IGNORECASE)
_HIS = re.compile(r"\b(he|him|his)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Kind:
    """A fault: where it can be made, and what stands there then."""

    name: str
    place: re.Pattern[str]
    fault: Callable[[re.Match[str]], str]
    unless: re.Pattern[str] | None = None  # found in the sentence: it might be no fault

    def spoil(self, sentence: str) -> str | None:
        """The sentence with the fault, where it has exactly one place for it."""
        places = list(self.place.finditer(sentence))
        if len(places) != 1 or (self.unless and self.unless.search(sentence)):
            return None
        place = places[0]
        return sentence[: place.start()] + self.fault(place) + sentence[place.end() :]


def _swap(words: dict[str, str]) -> Callable[[re.Match[str]], str]:
    return lambda place: place["before"] + words[place["word"]]


def _kind(name: str, before: str, words: dict[str, str], unless: re.Pattern | None = None) -> Kind:
    """A fault that puts another word in place of one behind `before`."""
    place = re.compile(rf"\b(?P<before>{before})(?P<word>{'|'.join(words)})\b")
    return Kind(name, place, _swap(words), unless)


_IF = re.compile(r"\b(if|though|wish|wished|as|unless|were)\b", re.IGNORECASE)
KINDS = (
    _kind("agreement, one", "(?:[Hh]e|[Ss]he|[Ii]t) ", _MANY, unless=_IF),
    _kind("agreement, many", "(?:[Tt]hey|[Ww]e) ", {many: one for one, many in _MANY.items()}),
    _kind("reflexive, he", "", {"himself": "herself"}, _HERS),
    _kind("reflexive, she", "", {"herself": "himself"}, _HIS),
    _kind("base form after an auxiliary", r"(?:did|could|would) not ", _PAST),
    _kind("participle", r"(?:had|having) ", _PARTICIPLES),
    _kind("case of a pronoun", r"(?:to|with|from|at|upon) ", _SUBJECTS),
    Kind(
        "determiner and noun",
        re.compile(r"\b(?P<that>[Tt]hese|[Tt]hose) (?=[a-z]+s\b)"),
        lambda place: {"ese": "is", "ose": "at"}[place["that"][2:]].join((place["that"][:2], " ")),
    ),
    Kind(
        "article before a vowel",
        re.compile(r"\ban (?=[aeio])"),
        lambda place: "a ",
    ),
    Kind(
        "order of words",
        re.compile(r"\b(?P<one>the|his|her|my) (?P<two>[a-z]+) (?=of |in |to |and |was |had )"),
        lambda place: f"{place['two']} {place['one']} ",
    ),
)


@dataclass(frozen=True)
class Item:
    """A test: one of the `texts` is right, the first; all are read behind `context`."""

    kind: str
    context: str
    texts: tuple[str, ...]
    answers: tuple[str, ...] = ()  # of a cloze item, the candidates in the same order


Reader = Callable[[Item], list[float]]  # how likely each of an item's texts is, as a logarithm


def pairs_from(books: list[str], count: int) -> Iterator[Item]:
    """At most `count` pairs of each kind."""
    sentences = [
        sentence
        for book in books
        for paragraph in book.split("\n")
        for sentence in sentences_of(paragraph)
        if 6 <= len(words_of(sentence)) <= 25 and sentence[:1].isupper() and '"' not in sentence
    ]
    for kind in KINDS:
        made = [(right, wrong) for right in sentences if (wrong := kind.spoil(right))]
        yield from (Item(kind.name, "", pair) for pair in spaced(made, count))


def cloze_from(books: list[str], count: int) -> Iterator[Item]:
    """At most `count` items that lack a name, and as many that lack their last word."""
    frequent = Counter(word.casefold() for book in books for word in words_of(book))
    common = {word for word, _ in frequent.most_common(COMMON)}
    names: list[Item] = []
    lasts: list[Item] = []
    for book in books:
        is_person = persons_in(book).__contains__
        sentences = [s for p in book.split("\n") for s in sentences_of(p)]
        for index, sentence in enumerate(sentences):
            context = context_of(sentences, index)
            if context and 6 <= len(words_of(sentence)) <= 40:
                names += _without(sentence, context, "cloze, a name", is_person)
                lasts += _without_last(sentence, context, lambda word: _is_content(word, common))
    yield from spaced(names, count)
    yield from spaced(lasts, count)


def _is_content(word: str, common: set[str]) -> bool:
    return word.islower() and len(word) > 3 and word not in common


def context_of(sentences: list[str], index: int) -> str:
    """The whole sentences before one, `CONTEXT` words or a little more; "" where there are less."""
    words = 0
    for start in range(index - 1, -1, -1):
        words += len(words_of(sentences[start]))
        if words >= CONTEXT:
            return " ".join(sentences[start:index]) if words < 2 * CONTEXT else ""
    return ""


def _without(
    sentence: str, context: str, kind: str, may_be: Callable[[str], bool], place: int | None = None
) -> list[Item]:
    """The item that lacks the first word that may be asked for, or the one at a place."""
    places = [m for m in re.finditer(r"[^\W\d_]+", sentence) if m.start() and may_be(m[0])]
    if place is not None:
        places = [match for match in places if match.start() == place]
    known = Counter(word for word in re.findall(r"[^\W\d_]+", context) if may_be(word))
    if not places or places[0][0] not in known:
        return []
    gap = places[0]
    others = [word for word in reversed(known) if word != gap[0] and word not in sentence]
    answers = (gap[0], *others[: CHOICES - 1])
    texts = tuple(f" {sentence[: gap.start()]}{one}{sentence[gap.end() :]}" for one in answers)
    return [Item(kind, context, texts, answers)] if len(answers) == CHOICES else []


def _without_last(sentence: str, context: str, may_be: Callable[[str], bool]) -> list[Item]:
    last = list(re.finditer(r"[^\W\d_]+", sentence))[-1]
    return _without(sentence, context, "cloze, the last word", may_be, last.start())


def spaced(items: list, count: int) -> list:
    """`count` of the items, evenly spaced."""
    step = max(1.0, len(items) / count)
    return [items[int(k * step)] for k in range(min(count, len(items)))]


class Bigram:
    """Words counted one by one and in twos, the twos first: only those that some item asks for."""

    WEIGHT = 50.0  # as many sightings of a word as its following counts weigh against single words

    def __init__(self, documents: Iterable[str], items: list[Item]) -> None:
        wanted = {two for item in items for text in item.texts for two in _twos(item, text)}
        single = {word for two in wanted for word in two}
        self._words: Counter[str] = Counter()
        self._twos: Counter[tuple[str, str]] = Counter()
        self._total = 0
        for document in documents:
            words = _pieces(document)
            self._total += len(words)
            self._words.update(word for word in words if word in single)
            self._twos.update(two for two in pairwise(words) if two in wanted)

    def __call__(self, item: Item) -> list[float]:
        return [sum(map(self._log, _twos(item, text))) for text in item.texts]

    def _log(self, two: tuple[str, str]) -> float:
        before, word = two
        alone = (self._words[word] + 0.5) / (self._total + 1)
        seen = self._twos[two] + self.WEIGHT * alone
        return math.log(seen / (self._words[before] + self.WEIGHT))


def _pieces(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


def _twos(item: Item, text: str) -> Iterator[tuple[str, str]]:
    words = [*(_pieces(item.context)[-1:] or ["."]), *_pieces(text)]
    return pairwise(words)


def most_frequent(item: Item) -> list[float]:
    """How often the context has each answer; pairs have none, and are all the same."""
    known = Counter(re.findall(r"[^\W\d_]+", item.context))
    return [float(known[answer]) for answer in item.answers] or [0.0] * len(item.texts)


class Model:
    """The logarithm of a text's probability behind its context, or behind the end of another."""

    def __init__(self, model: GPT2, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer

    @torch.inference_mode()
    def __call__(self, item: Item) -> list[float]:
        context = [self._tokenizer.end_of_text, *self._tokenizer.encode(item.context)]
        rows = [context + self._tokenizer.encode(text) for text in item.texts]
        width = min(self._model.config.n_positions, max(map(len, rows)) - 1)
        padded = torch.zeros(len(rows), width + 1, dtype=torch.long)
        behind = torch.zeros(len(rows), width, dtype=torch.bool)  # targets that count
        for index, row in enumerate(rows):
            known = len(context) - max(0, len(row) - width - 1)
            row = row[-(width + 1) :]
            padded[index, : len(row)] = torch.tensor(row)
            behind[index, known - 1 : len(row) - 1] = True
        logits = self._model(padded[:, :-1]).float()  # (B, T, V)
        losses = F.cross_entropy(logits.transpose(1, 2), padded[:, 1:], reduction="none")
        return (-losses * behind).sum(1).tolist()


def share_right(reader: Reader, items: list[Item]) -> float:
    """A tie of several counts as one part right."""
    total = 0.0
    for item in items:
        scores = reader(item)
        best = [score == max(scores) for score in scores]
        total += best[0] / sum(best)
    return total / len(items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("valid", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--model", action="append", metavar="NAME", help="[storyteller]")
    parser.add_argument("--count", type=int, default=250)
    options = parser.parse_args()
    books = list(read_documents(TextFile(options.valid)))
    items = [*pairs_from(books, options.count), *cloze_from(books, options.count)]
    readers: dict[str, Reader] = {
        name: Model(*load_for_inference(name)) for name in options.model or ["storyteller"]
    }
    readers["bigram"] = Bigram(read_documents(TextFile(options.text)), items)
    readers["most frequent"] = most_frequent
    print("| kind | items | chance |" + "".join(f" {name} |" for name in readers))
    print("|---" * (3 + len(readers)) + "|")
    by_kind: dict[str, list[Item]] = {}
    for item in items:
        by_kind.setdefault(item.kind, []).append(item)
    table = {kind: [share_right(r, own) for r in readers.values()] for kind, own in by_kind.items()}
    for kind, shares in table.items():
        own = by_kind[kind]
        chance = sum(1 / len(item.texts) for item in own) / len(own)
        print(f"| {kind} | {len(own)} | {chance:.0%} |" + "".join(f" {s:.1%} |" for s in shares))
    pairs = [shares for kind, shares in table.items() if not kind.startswith("cloze")]
    means = [sum(column) / len(column) for column in zip(*pairs)]
    print("| pairs, mean of the kinds | | 50% |" + "".join(f" {mean:.1%} |" for mean in means))


if __name__ == "__main__":
    main()
