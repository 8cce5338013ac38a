"""How much of what a model writes appears word for word in the text it was trained on.

The training tokens are sorted once by a hash of the 8 tokens that start at each place. Any 8 tokens
are then found by bisection, and from each place where they occur the match is followed as far as it
goes. Only this order, 4 bytes per token, is kept along with the tokens.
"""

from __future__ import annotations

import codecs
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2.files import replacing
from gpt2.tokenizer import Tokenizer, load_tokenizer
from train.data import Corpus, open_corpus

GRAM = 8  # tokens
_FILE = "grams.npy"
_NEAR = 4 * GRAM  # tokens around a match, within which it is extended by character
_PLACES = 64  # of equally long matches, those that are extended by character
_FACTORS = np.array([0x9E3779B97F4A7C15 ** (k + 1) % 2**64 | 1 for k in range(GRAM)], np.uint64)


@dataclass(frozen=True)
class Memorization:
    """The result for one sample, or for several taken together."""

    longest: str  # the longest passage that is in the training text; "" below 8 tokens
    longest_characters: int
    share_of_8_grams: float  # 0 to 1: of the samples' runs of 8 tokens


@dataclass(frozen=True)
class _Match:
    """The longest match that starts at a token of a sample."""

    length: int  # tokens, GRAM or more; 0 if there is none
    places: np.ndarray  # where it occurs in the training tokens, perhaps not every place


_NONE = _Match(0, np.zeros(0, np.int64))


class TrainingText:
    """The tokens of a training text, found by any 8 of them."""

    def __init__(self, tokens: np.ndarray, order: np.ndarray, tokenizer: Tokenizer) -> None:
        self._tokens, self._order, self._tokenizer = tokens, order, tokenizer

    @classmethod
    def build(cls, tokens: np.ndarray, tokenizer: Tokenizer) -> TrainingText:
        """Index `tokens` (n,), once: about a second for 5 million."""
        starts = max(0, len(tokens) - GRAM + 1)
        hashes = np.zeros(starts, np.uint64)
        for k, factor in enumerate(_FACTORS):
            hashes += tokens[k : k + starts].astype(np.uint64) * factor
        return cls(tokens, np.argsort(_mix(hashes), kind="stable").astype(np.uint32), tokenizer)

    def save(self, folder: Path) -> None:
        """Write the index next to the tokens, whole or not at all."""
        with replacing(folder / _FILE) as aside, open(aside, "wb") as file:
            np.save(file, self._order)

    def measure(self, *samples: str) -> Memorization:
        """The result for the samples taken together."""
        longest, found, grams = "", 0, 0
        for sample in samples:
            ids = self._encode(sample)
            matches = self._matches(ids)
            grams += max(0, len(ids) - GRAM + 1)
            found += sum(match.length >= GRAM for match in matches)
            longest = max(longest, self._longest(ids, matches), key=len)
        return Memorization(longest, len(longest), found / grams if grams else 0.0)

    def spans(self, sample: str) -> list[tuple[str, bool]]:
        """The sample cut into (text, whether the training text has it, in 8 tokens or more).
        Joined, the texts are the sample."""
        ids = self._encode(sample)
        covered = np.zeros(len(ids), bool)
        for start, match in enumerate(self._matches(ids)):
            if match.length >= GRAM:
                covered[start : start + match.length] = True
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        spans: list[tuple[str, bool]] = []
        for index, (token, inside) in enumerate(zip(ids, covered)):
            raw = self._tokenizer.decode_bytes([token])
            text = decoder.decode(raw, final=index == len(ids) - 1)
            if spans and spans[-1][1] == bool(inside):
                spans[-1] = (spans[-1][0] + text, bool(inside))
            elif text:
                spans.append((text, bool(inside)))
        return spans

    def _encode(self, sample: str) -> list[int]:
        return self._tokenizer.encode(sample, continues=True)  # exactly its characters

    def _matches(self, ids: list[int]) -> list[_Match]:
        """The longest match starting at each token."""
        sample = np.array(ids, np.int64)
        starts = len(ids) - GRAM + 1
        if starts < 1 or len(self._order) == 0:
            return [_NONE] * len(ids)
        grams = np.lib.stride_tricks.sliding_window_view(sample, GRAM)
        wanted = _mix((grams.astype(np.uint64) * _FACTORS).sum(1, dtype=np.uint64))
        left, right = self._bisect(wanted, False), self._bisect(wanted, True)
        return [
            self._follow(sample[start:], self._order[left[start] : right[start]].astype(np.int64))
            for start in range(starts)
        ] + [_NONE] * (GRAM - 1)

    def _bisect(self, wanted: np.ndarray, after: bool) -> np.ndarray:
        """Where each hash begins in the order, or where it ends."""
        low = np.zeros(len(wanted), np.int64)
        high = np.full(len(wanted), len(self._order), np.int64)
        while (open_ := low < high).any():
            middle = np.where(open_, (low + high) // 2, 0)
            hashes = self._hashes_at(self._order[middle].astype(np.int64))
            below = open_ & ((hashes <= wanted) if after else (hashes < wanted))
            low = np.where(below, middle + 1, low)
            high = np.where(open_ & ~below, middle, high)
        return low

    def _hashes_at(self, places: np.ndarray) -> np.ndarray:
        grams = self._tokens[places[:, None] + np.arange(GRAM)].astype(np.uint64)
        return _mix((grams * _FACTORS).sum(1, dtype=np.uint64))

    def _follow(self, sample: np.ndarray, places: np.ndarray) -> _Match:
        """Follow `sample` from `places` for as long as any of them matches."""
        length = 0
        while length < len(sample) and len(places):
            same = places[places + length < len(self._tokens)]
            same = same[self._tokens[same + length] == sample[length]]
            if not len(same):
                break
            places, length = same, length + 1
        return _Match(length, places) if length >= GRAM else _NONE

    def _longest(self, ids: list[int], matches: list[_Match]) -> str:
        """The longest passage among the matches, each extended by character on both sides, so it
        may begin and end within a token."""
        longest, end = "", 0
        for index, match in enumerate(matches):
            if match.length and index + match.length > end:  # else it is part of an earlier one
                end = index + match.length
                for place in match.places[:_PLACES]:
                    passage = self._grow(ids, index, int(place), match.length)
                    longest = max(longest, passage, key=len)
        return longest

    def _grow(self, ids: list[int], index: int, place: int, length: int) -> str:
        here = ids[max(0, index - _NEAR) : index], ids[index + length : index + length + _NEAR]
        stop = place + length
        there = self._tokens[max(0, place - _NEAR) : place], self._tokens[stop : stop + _NEAR]
        before, after = map(self._decode, here)
        before_there, after_there = map(self._decode, there)
        core = self._decode(ids[index : index + length])
        head, tail = _common_end(before, before_there), _common_end(after[::-1], after_there[::-1])
        return before[len(before) - head :] + core + after[:tail]

    def _decode(self, ids: list[int] | np.ndarray) -> str:
        raw = self._tokenizer.decode_bytes([int(index) for index in ids])
        return raw.decode("utf-8", errors="replace")


class TrainingTexts:
    """The most recently used training texts: their tokenizers take time to read."""

    def __init__(self, most: int = 8) -> None:
        self._most, self._guard = most, threading.Lock()
        self._texts: OrderedDict[Path, TrainingText] = OrderedDict()

    def get(self, folder: Path) -> TrainingText | None:
        """Like `open_training_text`."""
        with self._guard:
            text = self._texts.pop(folder, None) or open_training_text(folder)
            if text is not None:
                self._texts[folder] = text
                if len(self._texts) > self._most:
                    self._texts.popitem(last=False)
            return text

    def forget(self, folder: Path) -> None:
        with self._guard:
            self._texts.pop(folder, None)


def open_training_text(folder: Path, corpus: Corpus | None = None) -> TrainingText | None:
    """The training text of a run with its tokens in `folder`, memory-mapped; None before `save`,
    or if what it wrote is damaged.
    An already open `corpus` saves opening it again."""
    path = folder / _FILE
    if not os.path.isfile(path):
        return None
    corpus = corpus or open_corpus(folder, load_tokenizer(folder))
    order = _open_order(path, max(0, len(corpus.train) - GRAM + 1))
    return None if order is None else TrainingText(corpus.train, order, corpus.tokenizer)


def _open_order(path: Path, starts: int) -> np.ndarray | None:
    """The index in a file; None if it is damaged or of other tokens."""
    if not starts:  # an empty array cannot be mapped
        return np.zeros(0, np.uint32)
    try:
        order = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError, SyntaxError):
        return None
    fits = order.dtype == np.uint32 and order.shape == (starts,) and order.max() < starts
    return order if fits else None


def _mix(hashes: np.ndarray) -> np.ndarray:
    """Spread the sums' bits. Equal sums of unequal tokens are rare, and are compared anyway."""
    return hashes ^ (hashes >> np.uint64(31))


def _common_end(a: str, b: str) -> int:
    length = 0
    while length < min(len(a), len(b)) and a[-1 - length] == b[-1 - length]:
        length += 1
    return length
