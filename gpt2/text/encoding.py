"""Bytes to characters: the encoding is found while they are read, once, from beginning to end."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from gpt2.errors import UserError
from gpt2.text.detection import ENCODINGS, find_escaped, guess_encoding

CHUNK_BYTES = 1 << 20
_MOST_BYTES = 1 << 24  # read ahead before the encoding is decided
_TELLING_BYTES = 64  # beyond ASCII: fewer may be a coincidence
_FEW = 16  # bytes that are not of the encoding, in however short a file
# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32", "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16", "utf-16-be"),
)
_BAD = "\udc00"  # stands for a byte that is not of the encoding; no decoder makes it
_LOST = re.compile(f"[\0{_BAD}]")
codecs.register_error("gpt2-bad-bytes", lambda error: (_BAD * (error.end - error.start), error.end))
_RARER = ("cp852", "iso8859_15", "mac_latin2", "mac_cyrillic", "iso2022_jp")
CHOICES = ("utf-8", *ENCODINGS, *_RARER, "utf-16", "utf-32")


class EncodingUnclear(UserError):
    """Only a person can say which encoding a text is in."""


def check_encoding(name: str | None) -> str | None:
    """The usual spelling of an encoding's name; `UserError` if there is no such encoding of text.
    No name is none."""
    if not name:
        return None
    try:
        known = codecs.lookup(name)
        if not known._is_text_encoding:  # base64 and compression are codecs, too
            raise LookupError
        return known.name
    except (LookupError, ValueError):  # of a name with a zero byte
        raise UserError(
            f"There is no text encoding {name[:40]!r}. Known are: {', '.join(CHOICES)}, and more."
        ) from None


class Characters:
    """The characters of `file`, with "\\n" at the end of every line. `encoding` is what it is known
    to be; without it, it is found:

    - by a mark at the beginning, or, of UTF-16 and UTF-32, by their zero bytes;
    - else at the first byte that is not ASCII, from the megabyte that follows it: up to there all
      encodings that are left agree.

    `usual` is what it is where it is not UTF-8, which saves guessing.

    A byte that is not of the encoding costs itself alone: it is dropped and counted. `UserError`
    for what is not text, for an encoding that is not certain, and where a file has parts of two.
    """

    def __init__(
        self, file: BinaryIO, name: str, encoding: str | None = None, usual: str | None = None
    ) -> None:
        self._file, self._name = file, name
        self._given, self._usual = check_encoding(encoding), check_encoding(usual)
        self.encoding = "utf-8"  # of a text that is ASCII
        self.certainty: float | None = None  # of an encoding that was guessed
        self.lost = 0  # bytes
        self.first_lost = 0  # where, counted from 0
        self._decoder: codecs.IncrementalDecoder | None = None
        self._codec = "ascii"
        self._position = 0  # of the first byte that is not read yet
        self._zeros = 0
        self._beyond = 0  # characters that are not ASCII

    @property
    def notes(self) -> Iterator[str]:
        if self.encoding != "utf-8":
            sure = "" if self.certainty is None else f" ({self.certainty:.0%} certain)"
            yield f"read as {self.encoding}{sure}"
        if self.lost:
            count = "1 byte is" if self.lost == 1 else f"{self.lost:,} bytes are"
            yield (
                f"{count} not of {self.encoding}, dropped; the first is byte {self.first_lost:,}"
            )

    def __iter__(self) -> Iterator[str]:
        newlines = io.IncrementalNewlineDecoder(None, translate=True)
        data = self._begin(self._file.read(CHUNK_BYTES))
        while data:
            if self._decoder is None and (not data.isascii() or b"\x1b$" in data):
                data = self._decide(data)
            following = self._file.read(CHUNK_BYTES)
            yield newlines.decode(self._decode(data, final=not following), final=not following)
            data = following

    def _begin(self, data: bytes) -> bytes:
        """Take the mark, and what shows at once."""
        for mark, name, codec in _MARKS:
            if data.startswith(mark) and (self._given or name).startswith(codec[:5]):
                self._set(name, codec)
                self._position = len(mark)
                return data[len(mark) :] or self._file.read(CHUNK_BYTES)
        wide = _find_wide(data)
        if self._given in ("utf-16", "utf-32"):
            self._set(self._given, wide or f"{self._given}-le")
        elif self._given:
            self._set(self._given, self._given)
        elif wide:
            self._set(wide, wide)
        return data

    def _set(self, name: str, codec: str) -> None:
        self.encoding, self._codec = name, codec
        self._decoder = codecs.getincrementaldecoder(codec)(errors="gpt2-bad-bytes")

    def _decide(self, data: bytes) -> bytes:
        """Read on until the encoding is clear, and say which it is."""
        first = len(data) - len(data.lstrip(bytes(range(128))))
        while len(data) < _MOST_BYTES and (
            len(data) - first < CHUNK_BYTES or _count_beyond(data) < _TELLING_BYTES
        ):
            more = self._file.read(CHUNK_BYTES)
            data += more
            if not more:
                break
        if data.count(0) > _FEW:
            raise self._not_text()
        if is_binary(data.decode("latin-1")):
            raise UserError(f"{self._name} is full of control characters: it is not text.")
        text = data.decode("utf-8", errors="gpt2-bad-bytes")
        bad = text.count(_BAD)
        letters = _count_beyond(text) - bad
        cut = len(text) - len(text.rstrip(_BAD))
        is_cut = bad == cut and 2 <= cut <= 3 and data[-cut] >= 0xC2  # within the last character
        if find_escaped(data):
            guess = guess_encoding(data)
        elif letters > bad or is_cut or letters == bad == 0:
            self._set("utf-8", "utf-8")
            return data
        elif self._usual not in (None, "ascii", "utf-8"):
            self._set(self._usual, self._usual)
            return data
        else:
            guess = guess_encoding(data)
        if not guess.is_certain:
            likely = ", ".join((guess.encoding, *guess.others[:2]))
            where = self._position + first
            raise EncodingUnclear(
                f"{self._name} is not UTF-8 (see its byte {where:,}), and what else it is, is not "
                f"certain; perhaps {likely}. Name its encoding (--encoding NAME, or Encoding on "
                "the page), or save it as UTF-8."
            )
        self._set(guess.encoding, guess.encoding)
        self.certainty = guess.certainty
        return data

    def _decode(self, data: bytes, final: bool) -> str:
        if self._decoder is None:
            text, waiting = data.decode("ascii"), 0
        else:
            waiting = len(self._decoder.getstate()[0])
            text = self._decoder.decode(data, final)
            if self._codec.startswith("utf-16"):
                self._refuse_odd_bytes(data, text)
        self._beyond += _count_beyond(text)
        if found := _LOST.search(text):
            if not self.lost:
                before = text[: found.start()].encode(self._codec, errors="replace")
                self.first_lost = self._position - waiting + len(before)
            bad = text.count(_BAD)
            self._zeros += text.count("\0")
            self._beyond -= bad
            self.lost += bad + text.count("\0")
            text = _LOST.sub("", text)
        self._position += len(data)
        if not self._given:
            self._refuse_two_encodings(data)
        return text

    def _refuse_two_encodings(self, data: bytes) -> None:
        if self._zeros > _FEW:
            raise self._not_text()
        bad = self.lost - self._zeros
        mixed = bad > _FEW and 4 * bad > self._beyond
        if self.certainty is not None and not data.isascii():
            letters = data.decode("utf-8", errors="gpt2-bad-bytes")
            wrong = letters.count(_BAD)
            mixed = mixed or _count_beyond(letters) - wrong > _FEW + 10 * wrong
        if mixed:
            place = self.first_lost if bad else self._position - len(data)
            raise EncodingUnclear(
                f"{self._name} is in two encodings: it begins as {self.encoding}, but from byte "
                f"{place:,} on it is another. Save all of it as UTF-8, or name its encoding "
                "(--encoding NAME, or Encoding on the page) to drop what is not of that one."
            )

    def _refuse_odd_bytes(self, data: bytes, text: str) -> None:
        """Behind a byte that is missing, the halves of all letters would be joined wrongly."""
        joined = data[1:].decode(self._codec, errors="replace")
        pairs = data.decode(self._codec, errors="replace")
        wrong = min(_count_breaks(joined), _count_breaks(pairs))
        if wrong > _FEW + _count_breaks(text) // 100:
            raise UserError(
                f"{self._name} is {self.encoding}, two bytes to a letter, and has one byte too "
                f"many or too few before byte {self._position + len(data):,}. Save it as UTF-8."
            )

    def _not_text(self) -> UserError:
        return UserError(f"{self._name} holds zero bytes: it is not text. Save it as UTF-8.")


def decode_all(data: bytes, name: str, usual: str | None = None) -> str:
    """The characters of bytes that are in memory, as `Characters` reads them."""
    return "".join(Characters(io.BytesIO(data), name, usual=usual))


def is_binary(text: str) -> bool:
    """Whether control characters tell that this only pretends to be text."""
    controls = sum(map(text.count, map(chr, (*range(1, 9), *range(14, 27), 0x7F))))
    return controls > 4 + len(text) // 100


def _count_beyond(text: str | bytes) -> int:
    """How much of it is not ASCII."""
    if isinstance(text, bytes):
        return len(text) - len(text.translate(None, bytes(range(128, 256))))
    return 0 if text.isascii() else len(text) - len(text.encode("ascii", errors="ignore"))


def _find_wide(data: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, by where the zero bytes stand."""
    count = len(data) // 4
    if count < 2 or 0 not in data or (data.count(0) < len(data) / 10 and _is_mostly_utf8(data)):
        return None
    zeros = [data[place : 4 * count : 4].count(0) / count for place in range(4)]
    if zeros[3] > 0.99 and zeros[2] > 0.9:
        candidates = ["utf-32-le"]
    elif zeros[0] > 0.99 and zeros[1] > 0.9:
        candidates = ["utf-32-be"]
    else:
        candidates = ["utf-16-le", "utf-16-be"]
    found = max(candidates, key=lambda codec: _usual_signs(data.decode(codec, errors="replace")))
    text = data.decode(found, errors="replace")
    readable = sum(sign.isprintable() or sign.isspace() for sign in text) - text.count("\ufffd")
    return found if _usual_signs(text) and readable >= 0.98 * len(text) - 1 else None


def _count_breaks(text: str) -> int:
    return text.count(" ") + text.count("\n")


def _is_mostly_utf8(data: bytes) -> bool:
    text = data.decode("utf-8", errors="gpt2-bad-bytes")
    return text.count(_BAD) < len(text) / 10


def _usual_signs(text: str) -> int:
    """How many blanks, line breaks and full stops there are: those of an odd order are letters that
    nobody uses."""
    return sum(map(text.count, " \n.\u3000\u3001\u3002"))
