"""Tokens that stand in a text as they are, matched before byte pairs: `AddedToken`, `AddedTokens`.

The rules are those of the `tokenizers` library, which `transformers` runs: first the tokens that
look at the text as it is, then the text is normalized, then those that look at that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

# What both programs call white space; Python's \s takes four control characters more.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SPACE_BEFORE, _SPACE_AFTER = re.compile(rf"[{_SPACES}]*\Z"), re.compile(rf"[{_SPACES}]*")


@dataclass(frozen=True)
class AddedToken:
    """One token, with the fields that tokenizer.json gives it."""

    id: int
    content: str
    special: bool = False  # steers a model rather than being a word; matched all the same
    normalized: bool = True  # looked for in the normalized text
    lstrip: bool = False  # takes the white space before it
    rstrip: bool = False  # takes the white space after it
    single_word: bool = False  # only between characters that are not of words


def _lower(text: str) -> str:
    # Character by character: Python's own rule for a sigma at the end of a word is not theirs.
    return "".join(character.lower() for character in text)


NORMALIZERS: dict[str, Callable[[str], str]] = {
    "NFC": lambda text: unicodedata.normalize("NFC", text),
    "NFD": lambda text: unicodedata.normalize("NFD", text),
    "NFKC": lambda text: unicodedata.normalize("NFKC", text),
    "NFKD": lambda text: unicodedata.normalize("NFKD", text),
    "Lowercase": _lower,
}


class AddedTokens:
    """Cuts a text into ordinary parts and added tokens."""

    def __init__(self, tokens: Sequence[AddedToken], normalizer: Sequence[str] = ()) -> None:
        """`normalizer` holds names of `NORMALIZERS`, in the order in which they are applied."""
        self._normalizer = [NORMALIZERS[name] for name in normalizer]
        self._as_is = {token.content: token for token in tokens if not token.normalized}
        self._normalized = {
            self._normalize(token.content): token for token in tokens if token.normalized
        }
        self._patterns = (_pattern(self._as_is), _pattern(self._normalized))

    def split(self, text: str) -> Iterator[str | AddedToken]:
        """The parts of `text` in order, none empty; what is ordinary is normalized."""
        first, second = self._patterns
        for part in _split(text, first, self._as_is):
            if isinstance(part, AddedToken):
                yield part
            else:
                yield from _split(self._normalize(part), second, self._normalized)

    def _normalize(self, text: str) -> str:
        for normalize in self._normalizer:
            text = normalize(text)
        return text


def _pattern(tokens: dict[str, AddedToken]) -> re.Pattern[str] | None:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if tokens else None


def _split(
    text: str, pattern: re.Pattern[str] | None, tokens: dict[str, AddedToken]
) -> Iterator[str | AddedToken]:
    done = 0
    for match in pattern.finditer(text) if pattern else ():
        token, (start, end) = tokens[match[0]], match.span()
        if token.single_word and (_is_word(text[start - 1 : start]) or _is_word(text[end:][:1])):
            continue
        if token.lstrip:
            start = max(done, done + _SPACE_BEFORE.search(text[done:start]).start())
        if token.rstrip:
            end = _SPACE_AFTER.match(text, end).end()
        if done < start:
            yield text[done:start]
        yield token
        done = end
    if done < len(text):
        yield text[done:]


def _is_word(character: str) -> bool:
    """Whether a character, or none, belongs to a word by the rules of Unicode."""
    if not character:
        return False
    category = unicodedata.category(character)
    return category[0] in "LM" or category in ("Nd", "Nl", "Pc") or character in "\u200c\u200d"
