"""Text to token ids and back: byte pairs (GPT-2's or any other byte-level table) and characters.

Both kinds satisfy `Tokenizer`; `load_tokenizer` finds out which one a model folder holds.

User text never ends a text: "<|endoftext|>" typed by a person is eleven ordinary characters and
more, and so is any other token that a model has in its place. The end-of-text token has an id,
`end_of_text`, and is only ever added as that id. Every other token that somebody added to the
vocabulary, "<|speaker1|>", is that one id wherever it stands in a text, special or not: the model
was trained so, by `transformers`, which does the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import tiktoken

from gpt2.added_tokens import AddedToken, AddedTokens
from gpt2.byte_pair_files import (
    ADDED_TOKEN_FILES,
    BYTE_PAIR_FILES,
    has_byte_pairs,
    read_byte_pairs,
    read_merges,
    read_vocabulary,
    write_byte_pairs,
    write_characters,
)
from gpt2.byte_pairs import END_OF_TEXT, PLAIN, BytePairs, BytePairSettings, byte_characters
from gpt2.errors import UserError
from gpt2.files import read_json, write_json

# Read is the first; the others are for other programs.
CHARACTER_FILES = ("characters.json", "tokenizer.json", "tokenizer_config.json")
TOKENIZER_FILES = (*BYTE_PAIR_FILES, *ADDED_TOKEN_FILES, CHARACTER_FILES[0])
# Of tokenizers that are not byte pairs, to say what a folder holds that cannot be read.
_OTHER_KINDS = {
    "vocab.txt": "WordPiece",
    "spiece.model": "SentencePiece",
    "tokenizer.model": "SentencePiece",
}
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

    def encode(self, text: str, continues: bool = False) -> list[int]:
        """Ids of `text`, which `continues` one before it: then nothing is put before it either.
        `UserError` names the first character that has none."""

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD."""

    def decode_bytes(self, ids: list[int]) -> bytes:
        """The UTF-8 bytes of `ids`; one id may hold only a part of a character."""

    def save(self, folder: Path) -> None:
        """Write the files from which `load_tokenizer` builds this tokenizer again."""


class BytePairTokenizer:
    """GPT-2's byte-pair encoding over `merges`, run by tiktoken.

    `vocabulary` maps each token, in the stand-in characters, to its id. tiktoken wants ids in merge
    order; a vocabulary in another order is reached through one table. `settings` are the added
    tokens and whatever else decides on ids. Ids may have holes below an added token; these are
    never encoded and stand for nothing.
    """

    def __init__(
        self,
        vocabulary: dict[str, int],
        merges: list[tuple[str, str]],
        settings: BytePairSettings = PLAIN,
    ) -> None:
        self._pairs = pairs = BytePairs(vocabulary, merges, settings)
        pairs.require_sound()
        self.vocabulary = vocabulary
        self.merges = merges
        self.settings = settings
        ids = pairs.ids
        self.vocab_size = max(ids.values()) + 1
        self.end_of_text = None if pairs.end_of_text is None else ids[pairs.end_of_text]
        stand_ins = byte_characters()
        token_bytes = [bytes(stand_ins[character] for character in token) for token in pairs.merged]
        rank_to_id = [vocabulary[token] for token in pairs.merged]
        in_order = rank_to_id == list(range(len(rank_to_id)))
        self._rank_to_id = None if in_order else rank_to_id
        self._bytes = dict(zip(rank_to_id, token_bytes))
        as_written = {index: token.encode() for token, index in ids.items()}
        for index in range(self.vocab_size):
            self._bytes.setdefault(index, as_written.get(index, b""))
        never_typed = (self.end_of_text, ids.get(END_OF_TEXT))
        matched = [token for token in settings.added if token.id not in never_typed]
        self._added = AddedTokens(matched, settings.normalizer)
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
        merges = read_merges(merges_file)
        if vocabulary_file is not None:
            return cls(read_vocabulary(vocabulary_file), merges)
        tokens = [*byte_characters(), *(left + right for left, right in merges), END_OF_TEXT]
        return cls({token: index for index, token in enumerate(tokens)}, merges)

    @property
    def is_plain(self) -> bool:
        """Whether vocabulary and merges alone decide on all ids, as in OpenAI's release."""
        others = {token.content for token in self.settings.added} - {END_OF_TEXT}
        return not (others or self.settings.normalizer or self.settings.add_prefix_space)

    def encode(self, text: str, continues: bool = False) -> list[int]:
        _refuse_surrogates(text)
        ids: list[int] = []
        for part in self._added.split(text):
            if isinstance(part, AddedToken):
                ids.append(part.id)
            else:
                begins = self.settings.add_prefix_space and not (continues and not ids)
                ids += self._encode_ordinary(" " + part if begins and part[0] != " " else part)
        return ids

    def decode(self, ids: list[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: list[int]) -> bytes:
        return b"".join(self._bytes[index] for index in ids)

    def save(self, folder: Path) -> None:
        write_byte_pairs(folder, self._pairs)
        _remove_others(folder, BYTE_PAIR_FILES)

    def _encode_ordinary(self, text: str) -> list[int]:
        ranks = [
            rank
            for part in _split_long_whitespace(text)
            for rank in self._encoding.encode_ordinary(part)
        ]
        return ranks if self._rank_to_id is None else [self._rank_to_id[rank] for rank in ranks]


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

    def encode(self, text: str, continues: bool = False) -> list[int]:
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
        write_characters(folder, self.stoi)
        _remove_others(folder, CHARACTER_FILES)


def gpt2_tokenizer() -> BytePairTokenizer:
    """The tokenizer of OpenAI's four sizes, 50,257 tokens, from the bundled merge table."""
    return BytePairTokenizer.from_files(GPT2_VOCABULARY / "merges.txt")


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the files of a tokenizer, whole or broken."""
    return has_byte_pairs(folder) or is_character_model(folder)


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
    if has_byte_pairs(folder):
        pairs = read_byte_pairs(folder)
        try:
            return BytePairTokenizer(pairs.vocabulary, pairs.merges, pairs.settings)
        except UserError as error:
            raise UserError(f"The tokenizer in {folder} is broken: {error}.") from None
    other = next((name for name in _OTHER_KINDS if (folder / name).is_file()), None)
    found = f" that this program reads, only {other} ({_OTHER_KINDS[other]})" if other else ""
    raise UserError(
        f"{folder} has no tokenizer{found}: vocab.json and merges.txt or tokenizer.json (byte "
        "pairs) or characters.json (characters) belong beside the weights."
    )


def _remove_others(folder: Path, keep: tuple[str, ...]) -> None:
    # Another tokenizer's files in the same folder would be read in place of those just written.
    for name in TOKENIZER_FILES:
        if name not in keep:
            (folder / name).unlink(missing_ok=True)


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
