"""What a visitor may ask of a server that trains for others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt2.errors import UserError
from gpt2.settings import check, quote, setting, settings_of
from gpt2.text import check_encoding
from service.text_summary import PreparedText
from train.config import TrainConfig


@dataclass(frozen=True)
class Effort:
    """A preset: as many steps as fit into `seconds`, within `epochs` of the text, not too few."""

    seconds: float  # in all, but for the start
    epochs: float
    min_steps: int
    measurements: int  # evaluations and samples after the first
    sample_tokens: int
    patience: int


EFFORTS = {
    "taste": Effort(35, 12, 20, 10, 60, 0),
    "good": Effort(5 * 60, 20, 60, 10, 100, 0),
    "thorough": Effort(40 * 60, 40, 150, 20, 100, 5),
}
OFFERED = {one.name: one for one in settings_of(TrainConfig) if one.offered is not False}


@dataclass(frozen=True)
class RunRequest:
    """A new run as a visitor asked for it. Every value is checked; `UserError` names the first that
    cannot be used. Either `text` (pasted) or `file` (an upload, which is deleted as soon as it is
    tokenized) is given; `prepared`, of the same text, saves reading it again."""

    model: str = setting(help="what `resolve` takes; the server chose it", low=1, high=1000)
    text: str | None = field(default=None, repr=False)
    file: Path | None = None
    preset: str = setting("taste", "how thoroughly to train", choices=tuple(EFFORTS))
    column: str | None = setting(None, "the text column of a table", high=200)
    changes: tuple[tuple[str, Any], ...] = ()  # of `OFFERED`: what the visitor set themselves
    name: str = setting("", "what people call the model; empty = `model` itself", high=200)
    prepared: PreparedText | None = None
    encoding: str | None = setting(None, "the encoding of the file; empty = found", high=40)

    def __post_init__(self) -> None:
        check(self)
        if (self.text is None) == (self.file is None):
            raise UserError("Give a text: paste one, or upload one file.")
        if self.text is not None and type(self.text) is not str:
            raise UserError(f"text must be a text, not {quote(self.text)}.")
        if self.file is not None and not isinstance(self.file, Path):
            raise UserError(f"file must be an uploaded file, not {quote(self.file)}.")
        check_encoding(self.encoding)
        object.__setattr__(self, "changes", parse_changes(self.changes))

    @property
    def source(self) -> Path | str:
        return self.text if self.file is None else self.file

    @property
    def tokens(self) -> Path | None:
        """The folder of `prepared`, if it is of this file, column, encoding and model."""
        found = self.prepared
        if found is None or found.folder is None or self.file is None:
            return None
        asked = (self.model, self.column, self.encoding)
        same = (found.model, found.column, found.encoding) == asked
        same = same and found.folder.parent == self.file.parent
        # Where another reading has replaced it, the text is read again.
        return found.folder if same and found.folder.is_dir() else None


def parse_changes(changes: object) -> tuple[tuple[str, Any], ...]:
    """Pairs of a setting and its value, each in the range that the server offers."""
    if type(changes) is not tuple:
        raise UserError(f"changes must be pairs of a name and a value, not {quote(changes)}.")
    parsed: dict[str, Any] = {}
    for change in changes:
        if type(change) is not tuple or len(change) != 2:
            raise UserError(f"changes must be pairs of a name and a value, not {quote(change)}.")
        name, value = change
        if type(name) is not str or name not in OFFERED:
            raise UserError(f"There is no setting {quote(name)}.")
        if name in parsed:
            raise UserError(f"{name} is given twice.")
        parsed[name] = OFFERED[name].parse_offered(value)
    return tuple(parsed.items())
