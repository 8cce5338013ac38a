"""Who is looking at the page: an id that the visitor's browser keeps, and the run on the page.

Both are capabilities of 128 random bits, and both come from the browser, so they are parsed like
any other input. Neither says who the person is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import gradio as gr

from service.ids import is_id, new_id

# Both are fixed: with random ones, every restart would turn every visitor into a stranger.
_STORAGE_KEY = "gpt2-visitor"
_STORAGE_SECRET = "keeps nothing from the browser's owner"


@dataclass(frozen=True)
class Visitor:
    owner: str | None = None  # lists their runs, for them alone
    run: str | None = None  # the one on the page

    @classmethod
    def parse(cls, value: object) -> Visitor:
        """From what the browser keeps; anything that is not an id is left out."""
        kept = value if type(value) is dict else {}
        return cls(as_id(kept.get("owner")), as_id(kept.get("run")))

    def known(self) -> Visitor:
        """With an owner id, created now if the browser had none."""
        return self if self.owner else Visitor(new_id(), self.run)

    def at(self, run: str | None) -> Visitor:
        return Visitor(self.owner, run)

    def kept(self) -> dict:
        """What the browser should keep."""
        return asdict(self)


def as_id(value: object) -> str | None:
    return value if is_id(value) else None


def build_visitor() -> gr.BrowserState:
    return gr.BrowserState(Visitor().kept(), storage_key=_STORAGE_KEY, secret=_STORAGE_SECRET)
