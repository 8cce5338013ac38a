"""Text to token ids and back: byte pairs (GPT-2's or any other byte-level table) and characters.

Both kinds satisfy `Tokenizer`; `load_tokenizer` finds out which one a model folder holds. User
text never becomes a special token: "<|endoftext|>" typed by a person is eleven ordinary characters
and more. The end-of-text token has an id, `end_of_text`, and is only ever added as that id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import tiktoken

from gpt2.errors import UserError
from gpt2.files import read_json, write_json, write_text

END_OF_TEXT = "<|endoftext|>"
BYTE_PAIR_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")
CHARACTER_FILES = ("characters.json",)
TOKENIZER_FILES = (*BYTE_PAIR_FILES, *CHARACTER_FILES)
OTHER_TOKENIZER_FILES = ("tokenizer.json", "special_tokens_map.json", "added_tokens.json")
_LONGEST_BLANK = 100_000  # characters
_BLANKS = re.compile(r"\s{100,}")
GPT2_VOCABULARY = Path(__file__).parent / "vocabulary"  # OpenAI's published merge table

# How GPT-2 cuts text into words before merging. The possessive `++` gives the released pattern's
# result (they never need to give back a character) and keeps a megabyte of spaces linear.
WORDS = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


class Tokenizer(Protocol):
    """What generation, training and the model folder ask of a tokenizer."""

    vocab_size: int
    end_of_text: int | None  # the id that ends a text, if the vocabulary has one

    def encode(self, text: str) -> list[int]:
        """Ids of `text`. `UserError` names the first character that has none."""

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD."""

    def decode_bytes(self, ids: list[int]) -> bytes:
        """The UTF-8 bytes of `ids`; one id may hold only a part of a character."""

    def save(self, folder: Path) -> None:
        """Write the files from which `load_tokenizer` builds this tokenizer again."""


def byte_characters() -> dict[str, int]:
    """The printable stand-in of every byte in vocab.json and merges.txt, in id order.

    Bytes that print keep their own character; the others, in order, are those from U+0100 on.
    """
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(printing)]
    stand_ins = {chr(byte): byte for byte in printing}
    return stand_ins | {chr(256 + index): byte for index, byte in enumerate(rest)}


class BytePairTokenizer:
    """GPT-2's byte-pair encoding over `merges`, run by tiktoken.

    `vocabulary` maps each token, in the stand-in characters, to its id. tiktoken wants ids in merge
    order; a vocabulary in another order is reached through one table.
    """

    def __init__(self, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> None:
        stand_ins = byte_characters()
        tokens = [*stand_ins, *(left + right for left, right in merges)]  # in rank order
        known = set(stand_ins)
        for line, (left, right) in enumerate(merges, start=1):
            if left not in known or right not in known:
                raise UserError(f"merge {line} joins {left!r} and {right!r}, not both known yet")
            known.add(left + right)
        if len(known) != len(tokens):
            raise UserError("the merge table makes the same token twice")
        _refuse_dead_merges(merges)
        special = [token for token in vocabulary if token not in known]
        if missing := [token for token in tokens if token not in vocabulary]:
            raise UserError(f"the vocabulary lacks {len(missing)} tokens, the first {missing[0]!r}")
        if special not in ([], [END_OF_TEXT]):
            extra = next(token for token in special if token != END_OF_TEXT)
            raise UserError(f"the vocabulary holds {extra!r}, which no merge makes")
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise UserError(f"the vocabulary's ids are not 0 to {len(vocabulary) - 1}, each once")

        self.vocabulary = vocabulary
        self.merges = merges
        self.vocab_size = len(vocabulary)
        self.end_of_text = vocabulary.get(END_OF_TEXT)
        token_bytes = [bytes(stand_ins[character] for character in token) for token in tokens]
        self._bytes = {vocabulary[token]: raw for token, raw in zip(tokens, token_bytes)}
        if self.end_of_text is not None:
            self._bytes[self.end_of_text] = END_OF_TEXT.encode()
        rank_to_id = [vocabulary[token] for token in tokens]
        in_order = rank_to_id == list(range(len(tokens)))
        self._rank_to_id = None if in_order else rank_to_id
        self._encoding = tiktoken.Encoding(
            name="gpt2-byte-pairs",
            pat_str=WORDS,
            mergeable_ranks={raw: rank for rank, raw in enumerate(token_bytes)},
            special_tokens={},
        )

    @classmethod
    def from_files(
        cls, merges_file: Path, vocabulary_file: Path | None = None
    ) -> BytePairTokenizer:
        """Read merges.txt and, unless the ids are in merge order with the end last, vocab.json."""
        merges = _read_merges(merges_file)
        if vocabulary_file is not None:
            return cls(_read_vocabulary(vocabulary_file), merges)
        tokens = [*byte_characters(), *(left + right for left, right in merges), END_OF_TEXT]
        return cls({token: index for index, token in enumerate(tokens)}, merges)

    def encode(self, text: str) -> list[int]:
        _refuse_surrogates(text)
        ids = [
            i for part in _split_long_whitespace(text) for i in self._encoding.encode_ordinary(part)
        ]
        return ids if self._rank_to_id is None else [self._rank_to_id[rank] for rank in ids]

    def decode(self, ids: list[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: list[int]) -> bytes:
        return b"".join(self._bytes[index] for index in ids)

    def save(self, folder: Path) -> None:
        table = json.dumps(self.vocabulary, ensure_ascii=False)  # on one line, as published
        write_text(folder / "vocab.json", table)
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in self.merges)]
        write_text(folder / "merges.txt", "\n".join(lines) + "\n")
        special = END_OF_TEXT if self.end_of_text is not None else None
        description = {
            "tokenizer_class": "GPT2Tokenizer",
            "add_prefix_space": False,
            "bos_token": special,
            "eos_token": special,
            "unk_token": special,
        }
        write_json(folder / "tokenizer_config.json", description)
        _remove_others(folder, BYTE_PAIR_FILES)


class CharacterTokenizer:
    """One id for every character of a fixed alphabet, nothing else."""

    def __init__(self, characters: list[str]) -> None:
        if any(type(character) is not str or len(character) != 1 for character in characters):
            raise UserError("a character table maps single characters")
        if not characters or len(set(characters)) != len(characters):
            raise UserError("a character table needs at least one character, each only once")
        self.itos = list(characters)
        self.stoi = {character: index for index, character in enumerate(self.itos)}
        self.vocab_size = len(self.itos)
        self.end_of_text = None

    @classmethod
    def from_text(cls, text: str) -> CharacterTokenizer:
        """The alphabet of `text`, sorted by code point."""
        return cls(sorted(set(text)))

    def encode(self, text: str) -> list[int]:
        try:
            return [self.stoi[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            raise UserError(
                f"This model knows {self.vocab_size} characters, and {character!r} "
                f"(U+{ord(character):04X}, at position {text.index(character)}) is not among "
                "them. Remove it or choose a model with byte pairs."
            ) from None

    def decode(self, ids: list[int]) -> str:
        return "".join(self.itos[index] for index in ids)

    def decode_bytes(self, ids: list[int]) -> bytes:
        return self.decode(ids).encode("utf-8")

    def save(self, folder: Path) -> None:
        write_json(folder / "characters.json", {"itos": self.itos})
        _remove_others(folder, CHARACTER_FILES)


def gpt2_tokenizer() -> BytePairTokenizer:
    """The tokenizer of OpenAI's four sizes, 50,257 tokens, from the bundled merge table."""
    return BytePairTokenizer.from_files(GPT2_VOCABULARY / "merges.txt")


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the files of a tokenizer, whole or broken."""
    pairs = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    return pairs or is_character_model(folder)


def is_character_model(folder: Path) -> bool:
    """Whether the tokens of the model in `folder` are characters."""
    return (folder / "characters.json").is_file()


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that a model folder holds. `UserError` when it holds none or a broken one."""
    if is_character_model(folder):
        table = read_json(folder / "characters.json")
        if type(table) is not dict or type(table.get("itos")) is not list:
            raise UserError(f'{folder / "characters.json"} holds no list "itos".')
        return CharacterTokenizer(table["itos"])
    if has_tokenizer(folder):
        try:
            return BytePairTokenizer.from_files(folder / "merges.txt", folder / "vocab.json")
        except UserError as error:
            raise UserError(f"The tokenizer in {folder} is broken: {error}.") from None
    raise UserError(
        f"{folder} has no tokenizer: vocab.json and merges.txt (byte pairs) or characters.json "
        "(characters) belong beside the weights."
    )


def _read_merges(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    pairs = []
    for line in lines[1:] if lines[0].startswith("#version") else lines:
        if not line:
            continue
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise UserError(f"{path} has a line that is not a merge: {line!r}")
        pairs.append((left, right))
    return pairs


def _read_vocabulary(path: Path) -> dict[str, int]:
    vocabulary = read_json(path)
    if type(vocabulary) is not dict or any(type(index) is not int for index in vocabulary.values()):
        raise UserError(f"{path} is not a table from tokens to ids.")
    return vocabulary


def _remove_others(folder: Path, keep: tuple[str, ...]) -> None:
    # Another tokenizer's files in the same folder would be read in place of those just written.
    for name in (*TOKENIZER_FILES, *OTHER_TOKENIZER_FILES):
        if name not in keep:
            (folder / name).unlink(missing_ok=True)


def _refuse_dead_merges(merges: list[tuple[str, str]]) -> None:
    # tiktoken joins neighbors by the token that they spell, byte-pair encoding by the merge that
    # is listed. They differ where an earlier merge always takes a part of a later one away, as
    # "a b" from "a bc". No learner makes such a table. So: undo each merge along its seam, later
    # halves first, and see that no earlier merge would have joined across it.
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    halves = {left + right: (rank, left, right) for rank, (left, right) in enumerate(merges)}
    for line, (left, right) in enumerate(merges, start=1):
        limit = line - 1
        while left in halves or right in halves:
            left_rank, right_rank = (halves.get(part, (-1,))[0] for part in (left, right))
            if left_rank > right_rank:
                limit, left = min(limit, left_rank), halves[left][2]
            else:
                limit, right = min(limit, right_rank + 1), halves[right][1]
            if ranks.get((left, right), limit) < limit:
                raise UserError(f"merge {line} can never happen: {left!r} and {right!r} join first")


def _split_long_whitespace(text: str) -> Iterator[str]:
    """`text`, with very long runs of white space in parts: tiktoken's matcher dies of a million."""
    start = 0
    if len(text) > _LONGEST_BLANK:
        for run in _BLANKS.finditer(text):
            for cut in range(run.start() + _LONGEST_BLANK, run.end(), _LONGEST_BLANK):
                yield text[start:cut]
                start = cut
    yield text[start:]


def _refuse_surrogates(text: str) -> None:
    # tiktoken would replace them silently; a text with half a character is a mistake of its sender.
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"The text has half a surrogate pair, U+{ord(text[error.start]):04X}, at position "
            f"{error.start}; it is not a character. Remove it."
        ) from None
