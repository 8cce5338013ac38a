"""A setting, declared once: its default, meaning and range; from that its check, flag and control.

A settings class is a frozen dataclass whose fields are made by `setting` and whose `__post_init__`
calls `check`. Flags, API arguments, controls, snippets and help texts are made from the same
declarations, so adding a setting is adding a field.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gpt2.errors import UserError
from gpt2.escapes import escape, unescape

TEXTS = "tuple[str, ...]"  # the kind of a setting of several texts


@dataclass(frozen=True)
class Setting:
    """What is declared of a field, and, as `settings_of` returns it, its name, kind and default."""

    help: str  # a phrase without a period
    title: str = ""  # on the page; made from the name where it is left out
    low: float | None = None  # the smallest value
    high: float | None = None  # the largest; of a text, its most characters
    most: int | None = None  # of several texts: how many
    above: float | None = None  # every value is above
    below: float | None = None  # every value is below
    choices: tuple[str, ...] = ()
    flag: str = ""  # of a truth value: the flag that turns it off, where it is no --no-NAME
    slider: tuple[float, float, float] | None = None  # on the page: from, to, step
    offered: tuple[float, float] | bool = False  # to visitors of a server: a range, or as it is
    on_page: bool = False  # whether the page has a control for it
    asked: Any = None  # the default where a person is asked, if it is another
    name: str = ""
    kind: str = ""  # "int", "float", "str", "bool", one of these and " | None", or TEXTS
    default: Any = None

    @property
    def words(self) -> str:
        """The title for people: "Top-k", "Batch size"."""
        return self.title or self.name.replace("_", " ").capitalize()

    @property
    def sentence(self) -> str:
        return self.help[0].upper() + self.help[1:] + "."

    @property
    def start(self) -> Any:
        """The default where a person is asked."""
        return self.default if self.asked is None else self.asked

    def parse(self, value: object) -> Any:
        """`value` of the exact type and in range; `UserError` says what would be.

        Whole numbers may come as 40 or 40.0, as pages and JSON send them; truth values and text
        never pass as numbers. Several texts may come as a tuple, a list or one text; empty ones
        count for nothing.
        """
        if value is None and self.kind.endswith("| None"):
            return None
        if self.kind == TEXTS:
            return self._several(value)
        value = self._exact(value)
        if self.choices and value not in self.choices:
            self._refuse(value)
        size = len(value) if isinstance(value, str) else value
        inside = (
            (self.low is None or size >= self.low)
            and (self.high is None or size <= self.high)
            and (self.above is None or size > self.above)
            and (self.below is None or size < self.below)
        )
        return value if inside else self._refuse(value)

    def parse_offered(self, value: object) -> Any:
        """As `parse`, in the range that a server offers to its visitors."""
        if self.offered is False:
            raise UserError(f"There is no setting {quote(self.name)}.")
        return self.within_offer().parse(value)

    def within_offer(self) -> Setting:
        """This setting with the range that a server offers."""
        if isinstance(self.offered, bool):
            return self
        low, high = self.offered
        return dataclasses.replace(self, low=low, high=high, above=None, below=None)

    def from_text(self, text: str) -> Any:
        """The value that a person typed, or one of several. What is no number stays a text, for
        `parse` to refuse."""
        if self.kind == TEXTS:
            return unescape(text)
        kinds: dict[str, tuple[Callable, ...]] = {"int": (int, float), "float": (float,)}
        for kind in kinds.get(self.kind.removesuffix(" | None"), ()):
            try:
                return kind(text.strip()[:400])
            except ValueError:
                continue
        return text

    def from_lines(self, value: object) -> object:
        """Several texts that a person typed into one box, a line each."""
        return [unescape(line) for line in value.split("\n")] if type(value) is str else value

    def _several(self, value: object) -> tuple[str, ...]:
        given = (value,) if type(value) is str else value
        if type(given) not in (tuple, list):
            self._refuse(value)
        texts = tuple(text for text in given if text != "")
        if len(texts) > self.most or not all(self._is_text(text) for text in texts):
            self._refuse(value)
        return texts

    def _is_text(self, value: object) -> bool:
        return type(value) is str and len(value) <= self.high and is_whole_text(value)

    def _exact(self, value: object) -> Any:
        kind = self.kind.removesuffix(" | None")
        if kind == "int" and type(value) is float and value.is_integer():
            return int(value)
        if kind == "float" and type(value) is int and abs(value) < 2**53:
            return float(value)
        if type(value).__name__ != kind or (kind == "float" and not math.isfinite(value)):
            self._refuse(value)
        if kind == "str" and not is_whole_text(value):
            raise UserError(f"{self.name} holds half a surrogate pair, which is not a character.")
        return value

    def _refuse(self, value: object) -> None:
        raise UserError(f"{self.name} must be {self._wanted()}, not {quote(value)}.")

    def _wanted(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind == "bool":
            return "true or false"
        if self.kind == TEXTS:
            return f"at most {self.most} texts of at most {self.high:,} characters"
        if self.kind.startswith("str"):
            if self.high is None:
                return "a text"
            return (
                f"a text of {f'{self.low} to' if self.low else 'at most'} {self.high:,} characters"
            )
        whole = self.kind.startswith("int")
        return ("a whole number" if whole else "a number") + self._range()

    def _range(self) -> str:
        if self.low is not None and self.high is not None:
            return f" from {_plain(self.low)} to {_plain(self.high)}"
        ends = {
            "of at least": self.low,
            "above": self.above,
            "at most": self.high,
            "below": self.below,
        }
        said = [f"{words} {_plain(end)}" for words, end in ends.items() if end is not None]
        return f" {' and '.join(said)}" if said else ""


def setting(default: Any = dataclasses.MISSING, help: str = "", **declared: Any) -> Any:
    """A field of a settings class; `declared` are fields of `Setting`. A function as the default is
    called for each object."""
    about = {"metadata": {"setting": Setting(help, **declared)}}
    if callable(default):
        return dataclasses.field(default_factory=default, **about)
    return dataclasses.field(default=default, **about)


def settings_of(kind: type) -> tuple[Setting, ...]:
    """The settings of a settings class, in order."""
    return tuple(
        dataclasses.replace(
            field.metadata["setting"], name=field.name, kind=field.type, default=field.default
        )
        for field in dataclasses.fields(kind)
        if "setting" in field.metadata
    )


def check(settings: Any) -> None:
    """Parse every setting of a settings object, in place. `UserError` names the first bad one."""
    for one in settings_of(type(settings)):
        object.__setattr__(settings, one.name, one.parse(getattr(settings, one.name)))


def add_flags(parser: Any, settings: Iterable[Setting]) -> None:
    """A flag for each setting; one that is not given has the value None."""
    for one in settings:
        meaning = f"{one.help} [{'empty' if one.start == '' else one.start}]"
        flag = flag_of(one)
        if one.kind == "bool" and one.flag:
            parser.add_argument(
                flag,
                dest=one.name,
                action="store_const",
                const=False,
                help=one.help.removeprefix("off: "),
            )
        elif one.kind == "bool":
            action = argparse.BooleanOptionalAction
            parser.add_argument(flag, dest=one.name, action=action, default=None, help=meaning)
        else:
            several = one.kind == TEXTS
            parser.add_argument(
                flag,
                dest=one.name,
                action="append" if several else "store",
                type=one.from_text,
                choices=one.choices or None,
                metavar=None if one.choices else {"str": "TEXT", TEXTS: "TEXT"}.get(one.kind, "N"),
                help=f"{meaning} {_SEVERAL_FLAGS}" if several else meaning,
            )


_SEVERAL_FLAGS = r"Repeat it for several. \n is a line break; so \t \r \\ \xNN \uNNNN"


def given_flags(options: argparse.Namespace, settings: Iterable[Setting]) -> dict[str, Any]:
    """The values of the flags that were given, by name."""
    named = {one.name: getattr(options, one.name) for one in settings}
    return {name: value for name, value in named.items() if value is not None}


def flag_of(one: Setting) -> str:
    return one.flag or "--" + one.name.replace("_", "-")


def as_flags(settings: Any) -> list[str]:
    """A settings object as words of a command line: its numbers, and what is not the default."""
    words = []
    for one in settings_of(type(settings)):
        value = getattr(settings, one.name)
        if one.kind in ("int", "float"):
            words += [flag_of(one), str(value)]
        elif one.kind == TEXTS:
            words += [f"{flag_of(one)}={escape(text)}" for text in value]
        elif value != one.default:
            words.append(flag_of(one) if one.kind == "bool" else f"{flag_of(one)}={value}")
    return words


def is_whole_text(text: str) -> bool:
    """Whether it can be written anywhere: pages do send halves of surrogate pairs."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def quote(value: object) -> str:
    """A value in a message, shortened."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python prints no numbers of more than 4300 digits
        return f"such a {type(value).__name__}"
    return text if len(text) <= 40 else text[:40] + "..."


def _plain(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"
