"""The table of a byte-pair tokenizer: vocabulary, merges, settings, and what makes it sound."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpt2.added_tokens import AddedToken
from gpt2.errors import UserError

END_OF_TEXT = "<|endoftext|>"
ROLES = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"))
_MAX_ID = 2_000_000
_SINGLE = (-1, "", "")  # the halves of what no merge makes
# A token that no merge makes and that nothing declares may be one that steers, never written.
_LOOKS_SPECIAL = re.compile(r"<.+>|\[.+\]")


@dataclass(frozen=True)
class BytePairSettings:
    """What decides on ids beside vocabulary and merges."""

    added: tuple[AddedToken, ...] = ()
    roles: tuple[tuple[str, str], ...] = ()  # ("pad_token", "<pad>"), of `ROLES`, as far as known
    add_prefix_space: bool = False  # a text begins with a space, which is put there if need be
    normalizer: tuple[str, ...] = ()  # names of `NORMALIZERS`, in the order of application


PLAIN = BytePairSettings()


@dataclass(frozen=True)
class BytePairs:
    """Everything that the files of a byte-pair tokenizer say about ids."""

    vocabulary: dict[str, int]  # in stand-in characters; added tokens may be in it or not
    merges: list[tuple[str, str]]
    settings: BytePairSettings = PLAIN

    @property
    def ids(self) -> dict[str, int]:
        """Of all tokens. An added one that no text can become is written as it is, not in
        stand-in characters."""
        return self.vocabulary | {token.content: token.id for token in self.settings.added}

    @property
    def end_of_text(self) -> str | None:
        """The token that ends a text: the one that is named so, else GPT-2's, if it is there."""
        named = dict(self.settings.roles).get("eos_token", END_OF_TEXT)
        return next((token for token in (named, END_OF_TEXT) if token in self.ids), None)

    @property
    def merged(self) -> list[str]:
        """The tokens that byte pairs can become, in rank order: single bytes, then the merges'."""
        return [*byte_characters(), *(left + right for left, right in self.merges)]

    def require_sound(self) -> None:
        """`UserError`, a clause without a full stop, unless every text has exactly one encoding and
        every id at most one token."""
        _refuse_broken_merges(self.merges)
        _refuse_broken_vocabulary(self)


def byte_characters() -> dict[str, int]:
    """The printable stand-in of every byte in vocab.json and merges.txt, in id order.

    Bytes that print keep their own character; the others, in order, are those from U+0100 on.
    """
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(printing)]
    stand_ins = {chr(byte): byte for byte in printing}
    return stand_ins | {chr(256 + index): byte for index, byte in enumerate(rest)}


def _refuse_broken_merges(merges: list[tuple[str, str]]) -> None:
    known = set(byte_characters())
    for line, (left, right) in enumerate(merges, start=1):
        if left not in known or right not in known:
            raise UserError(f"merge {line} joins {left!r} and {right!r}, not both known yet")
        known.add(left + right)
    if len(known) != 256 + len(merges):
        raise UserError("the merge table makes the same token twice")
    _refuse_dead_merges(merges)


def _refuse_broken_vocabulary(pairs: BytePairs) -> None:
    vocabulary, in_order = pairs.vocabulary, pairs.merged
    merged = set(in_order)
    added = {token.content: token.id for token in pairs.settings.added}
    if missing := [token for token in in_order if token not in vocabulary]:
        raise UserError(f"the vocabulary lacks {len(missing)} tokens, the first {missing[0]!r}")
    unmade = [token for token in vocabulary if token not in merged and token not in added]
    if extra := [token for token in unmade if not _LOOKS_SPECIAL.fullmatch(token)]:
        raise UserError(
            f"the vocabulary holds {extra[0]!r}, which no merge makes and which is not declared as "
            "an added token"
        )
    # Added tokens may lie in the holes of the vocabulary, or behind it, there with holes.
    top = max(vocabulary.values())
    beyond = [index for token, index in added.items() if token not in vocabulary]
    ids = sorted([*vocabulary.values(), *(index for index in beyond if index < top)])
    taken = [*vocabulary.values(), *beyond]
    if beyond and (len(set(taken)) < len(taken) or not 0 <= min(beyond) <= max(beyond) <= _MAX_ID):
        raise UserError("an added token has an id that another token has, or an impossible one")
    if ids != list(range(len(ids))):
        raise UserError(f"the vocabulary's ids are not 0 to {len(ids) - 1}, each once")


def _refuse_dead_merges(merges: list[tuple[str, str]]) -> None:
    # tiktoken joins neighbors by the token that they spell, byte-pair encoding by the merge that
    # is listed. They differ where an earlier merge always takes a part of a later one away, as
    # "a b" from "a bc". No learner makes such a table. So: undo each merge along its seam, later
    # halves first, and see that no earlier merge would have joined across it.
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    halves = {left + right: (rank, left, right) for rank, (left, right) in enumerate(merges)}
    for line, (left, right) in enumerate(merges, start=1):
        limit = line - 1
        while True:
            before_left, before_right = halves.get(left, _SINGLE), halves.get(right, _SINGLE)
            if before_left is before_right is _SINGLE:
                break
            if before_left[0] > before_right[0]:
                limit, left = min(limit, before_left[0]), before_left[2]
            else:
                limit, right = min(limit, before_right[0] + 1), before_right[1]
            if ranks.get((left, right), limit) < limit:
                raise UserError(f"merge {line} can never happen: {left!r} and {right!r} join first")
