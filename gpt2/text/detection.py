"""Which encoding bytes that are not UTF-8 are in, and how certain that is."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Those that people's files are in, the usual ones first. Where several give the same text, the
# first is named.
ENCODINGS = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257",
    "iso8859_2", "iso8859_5", "koi8_r", "mac_roman", "cp850", "cp437", "cp866",
    "cp932", "euc_jp", "gb18030", "big5", "cp949",
)  # fmt: skip
# Latin encodings differ from each other in a few letters, which statistics of all the others
# cannot tell apart. But a text is in one language, and its alphabet is in one of them.
_ALPHABETS = (
    "äöüß", "àâæçéèêëîïôœùûüÿ", "áéíñóúüªº", "áâãàçéêíóôõúü", "àèéìíòóùú", "åäöéæøü",
    "áðéíóúýþæö", "áéèëêïíóöôúü", "àçéèíïóòúü", "ąćęłńóśźż", "áčďéěíňóřšťúůýž",
    "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţșț", "čćđšž", "çğıöşüâîû", "ąčęėįšųūž",
    "āčēģīķļņšūž", "äõöüšž",
)  # fmt: skip
_SIGNS = set("’‘“”„‚–—…«»‹›€£§°©®·•¿¡\u00a0½¼×")
_WITHIN_WORDS = set("’‘·–—")
_SAMPLE_BYTES = 1 << 16
_TELLING = re.compile(rb"[\x00-\x7f]{0,80}[\x80-\xff]+(?:[\x00-\x7f]{0,80}[\x80-\xff]+)*.{0,80}")
_CERTAIN, _FITS = 0.6, 0.9
_USUAL, _USUAL_BONUS = "cp1252", 0.15  # what most such files are in, where the text allows it
_HIRAGANA = re.compile("[\u3041-\u309f]")


@dataclass(frozen=True)
class Guess:
    """The most likely encoding of some bytes."""

    encoding: str
    certainty: float  # 0.5: another reading is as good; at most 0.99
    others: tuple[str, ...]  # the next likely ones

    @property
    def is_certain(self) -> bool:
        return self.certainty >= _CERTAIN


def guess_encoding(data: bytes) -> Guess:
    """The most likely encoding of bytes that are neither ASCII nor UTF-8."""
    if escaped := find_escaped(data):
        return Guess(escaped, 0.99, ())
    sample = b"".join(found[0] for found in _TELLING.finditer(data))[:_SAMPLE_BYTES]
    noise = _measure_noise(sample)
    readings: dict[str, tuple[float, str]] = {}  # a text to its score and its encoding
    for encoding in ENCODINGS:
        text = sample.decode(encoding, errors="replace")
        if text not in readings:
            score = 2 * _fitness(text) - noise.get(encoding, 0.5)
            score += _USUAL_BONUS * (encoding == _USUAL)
            readings[text] = (score, encoding)
    ranked = sorted(readings.items(), key=lambda reading: reading[1], reverse=True)
    (text, (best, encoding)), (_, (second, _)) = ranked[:2]
    certainty = min(0.99, 0.5 + best - second) if _fitness(text) >= _FITS else 0.5
    return Guess(encoding, certainty, tuple(name for _, (_, name) in ranked[1:4]))


def find_escaped(data: bytes) -> str | None:
    """The encodings that change their alphabet by escapes, and so look like ASCII."""
    for mark, encoding in ((b"\x1b$)C", "iso2022_kr"), (b"\x1b$", "iso2022_jp_2")):
        if mark in data and data.isascii():
            text = data.decode(encoding, errors="replace")
            if text.count("\ufffd") <= 1:  # the last letter may be cut
                return encoding
    return None


def _measure_noise(sample: bytes) -> dict[str, float]:
    """What charset-normalizer says against each encoding that it thinks possible: 0 to about 1."""
    from charset_normalizer import from_bytes  # takes a moment to load, and few files need it

    return {
        encoding: 2 * found.chaos - 0.5 * found.coherence
        for found in from_bytes(sample, cp_isolation=list(ENCODINGS))
        for encoding in (found.encoding, *found.could_be_from_charset)
    }


def _fitness(text: str) -> float:
    """Which share of the letters and signs beyond ASCII stands where one writes it."""
    signs = [
        (sign, text[index - 1] if index else " ", text[index + 1 : index + 2] or " ")
        for index, sign in enumerate(text)
        if not sign.isascii()
    ]
    latin = [
        sign.lower()
        for sign, before, _ in signs
        if sign in "ªº" or ("\u00c0" <= sign <= "\u024f" and not _is_odd_capital(sign, before))
    ]
    spelled = max(sum(sign in alphabet for sign in latin) for alphabet in _ALPHABETS)
    others = sum(_stands_well(*place) for place in signs)
    # Japanese is read as good Korean and Chinese, but only its own reading has its syllables.
    japanese = len(_HIRAGANA.findall(text)) > 0.15 * len(signs)
    return (spelled + others) / max(1, len(signs)) + 0.2 * japanese


def _is_odd_capital(sign: str, before: str) -> bool:
    return sign.isupper() and before.islower()


def _stands_well(sign: str, before: str, after: str) -> bool:
    """Of what is not a Latin letter."""
    if "\u0370" <= sign <= "\u07ff":  # Greek, Cyrillic, Hebrew, Arabic: no words of two scripts
        mixed = any(other.isascii() and other.isalpha() for other in (before, after))
        return sign.isalpha() and not mixed and not _is_odd_capital(sign, before)
    if sign in _SIGNS:
        return sign in _WITHIN_WORDS or not (before.isalpha() and after.isalpha())
    return "\u3000" <= sign <= "\ud7a3" or "\uff01" <= sign <= "\uff60"  # Chinese, Japanese, Korean
