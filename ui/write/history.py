"""What the Write tab remembers: every version of the page, as plain values.

A version is what one press of a button left on the page: its texts, and the prompt box with them.
Undo and Redo walk all versions. Retry adds a variant beside the last text instead of replacing it;
continuing one of several texts leaves the others as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ui.generation import Step

MAX_VERSIONS, MAX_VARIANTS = 30, 20  # a visitor's memory on the server is bounded


@dataclass(frozen=True)
class Passage:
    """One text on the page, by who wrote it."""

    prompt: str
    kept: str = ""  # by the model, before the last press
    new: str = ""  # by the last press

    @property
    def text(self) -> str:
        return self.prompt + self.kept + self.new


@dataclass(frozen=True)
class Press:
    """What one press wrote, at its place among the texts that stayed beside it."""

    step: Step
    beside: tuple[Passage, ...] = ()
    place: int = 0

    @property
    def passages(self) -> tuple[Passage, ...]:
        step = self.step
        own = [Passage(step.prompt, step.kept, text) for text in step.texts]
        return (*self.beside[: self.place], *own, *self.beside[self.place :])

    @property
    def is_whole(self) -> bool:
        return bool(self.step.endings) and all(self.step.endings)


@dataclass(frozen=True)
class Version:
    """The variants of a press, of which one is on the page."""

    variants: tuple[Press, ...]
    shown: int = 0

    @property
    def press(self) -> Press:
        return self.variants[self.shown]


@dataclass(frozen=True)
class History:
    """All versions, and how many of them lie behind the page; 0 is a blank page."""

    versions: tuple[Version, ...] = ()
    at: int = 0
    first_prompt: str = ""  # in the box when the page was blank

    @property
    def version(self) -> Version | None:
        return self.versions[self.at - 1] if self.at else None

    @property
    def press(self) -> Press | None:
        return self.version.press if self.version else None

    @property
    def passages(self) -> tuple[Passage, ...]:
        return self.press.passages if self.press else ()

    @property
    def prompt(self) -> str:
        """What the prompt box held when this version was written."""
        return self.press.step.prompt if self.press else self.first_prompt

    @property
    def can_redo(self) -> bool:
        return self.at < len(self.versions)

    def add(self, press: Press) -> History:
        """After a press that wrote something new; what was undone is gone."""
        return self._with(Version((press,)))

    def retry(self, press: Press) -> History:
        """After another try of the last press: a variant beside those that are there."""
        before = self.version.variants if self.version else ()
        variants = (*before, press)[-MAX_VARIANTS:]
        return self._with(Version(variants, len(variants) - 1))

    def _with(self, version: Version) -> History:
        first = self.first_prompt if self.at else version.press.step.prompt
        versions = (*self.versions[: self.at], version)[-MAX_VERSIONS:]
        return History(versions, len(versions), first)

    def undo(self) -> History:
        return replace(self, at=max(0, self.at - 1))

    def redo(self) -> History:
        return replace(self, at=min(len(self.versions), self.at + 1))

    def show(self, by: int) -> History:
        """The variant before (-1) or after (1) the shown one."""
        if self.version is None:
            return self
        shown = min(max(self.version.shown + by, 0), len(self.version.variants) - 1)
        version = replace(self.version, shown=shown)
        versions = (*self.versions[: self.at - 1], version, *self.versions[self.at :])
        return replace(self, versions=versions)
