"""Where the text comes from: pasted, uploaded or the sample; and what it is.

An upload is moved out of gradio's cache at once, where whoever knows its address could fetch it,
into a random directory of its own; the trainer deletes it when it has been tokenized.
"""

from __future__ import annotations

import html
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gradio.utils import get_upload_folder

from gpt2.errors import UserError
from gpt2.temporary import Temporary, new_temp_folder
from gpt2.text import read_columns
from service.limits import Limits
from service.text_summary import (
    PreparedText,
    TextSummary,
    check_file,
    open_text,
    prepare_text,
    summarize_text,
)
from ui.models import Choice, Loaded

SAMPLE = Path(__file__).parents[1] / "assets" / "sample_text.txt"
_SHOWN_CHARACTERS = 260
_SHOWN_COLUMNS = 50
_BLOCK_SIZE = 256
_TOKENS = "tokens-"


@dataclass(frozen=True)
class Upload:
    """A file that waits for its run."""

    path: Path
    name: str  # as the visitor calls it
    columns: tuple[str, ...] = ()  # of a table

    def remove(self) -> None:
        shutil.rmtree(self.path.parent, ignore_errors=True)


def take_upload(path: object, limits: Limits) -> Upload:
    """Move what gradio received to a place of its own. `UserError` for what is not a text file."""
    source = _uploaded(path)
    try:
        check_file(source, limits)
        folder = new_temp_folder(Temporary.UPLOADS)
        target = folder / f"text{source.suffix.lower()}"
        shutil.move(source, target)
    finally:
        with suppress(OSError, ValueError):  # moved; or what was sent is no file's name
            source.unlink()
    return Upload(target, source.name[-80:], read_columns(target)[:_SHOWN_COLUMNS])


def _uploaded(path: object) -> Path:
    """Only what was uploaded: a program may send any path."""
    place = Path(get_upload_folder()).resolve()
    try:
        folder = Path(path).parent.resolve() if isinstance(path, str) else place
    except (OSError, ValueError, RuntimeError):
        folder = place
    if place not in folder.parents:
        raise UserError("Upload one file.")
    return Path(path)


def prepare_upload(
    upload: Upload,
    column: object,
    encoding: object,
    choice: Choice,
    loaded: Loaded,
    limits: Limits,
) -> PreparedText:
    """Read an upload once: what it is, and its tokens beside it for the run that may follow."""
    name, given = (one if type(one) is str and one else None for one in (column, encoding))
    # Finished ones only: a reading that another event began may still be under way.
    for old in upload.path.parent.glob(f"{_TOKENS}*/report.json"):
        shutil.rmtree(old.parent, ignore_errors=True)
    folder = upload.path.parent / f"{_TOKENS}{secrets.token_hex(4)}"
    text = open_text(upload.path, name, limits, given)
    summary = prepare_text(text, loaded.tokenizer, _block_size(loaded), folder)
    return PreparedText(summary, choice.source, name, given, folder)


def describe_pasted(text: object, choice: Choice, loaded: Loaded, limits: Limits) -> PreparedText:
    """What a pasted text is; it changes with every key, so nothing is kept of it."""
    opened = open_text(text if type(text) is str else None, None, limits)
    summary = summarize_text(opened, loaded.tokenizer, _block_size(loaded))
    return PreparedText(summary, choice.source)


def _block_size(loaded: Loaded) -> int:
    return min(_BLOCK_SIZE, loaded.window)


def show_card(found: TextSummary, name: str) -> str:
    facts = [
        name,
        "" if found.encoding == "pasted" else found.encoding,
        f"{found.documents:,} documents" if found.documents > 1 else "",
        f"{found.characters:,} characters",
        f"{found.tokens:,} tokens",
        f"{found.blocks:,} block{'' if found.blocks == 1 else 's'}",
    ]
    line = "".join(f"<li>{html.escape(fact)}</li>" for fact in facts if fact)
    warning = f'<p class="warning">{html.escape(found.warning)}</p>' if found.warning else ""
    seen = "".join(f'<p class="hint">{html.escape(_sentence(note))}</p>' for note in found.notes)
    blocks = "".join(f"<li>{html.escape(_begin(block))}</li>" for block in found.first_blocks)
    return (
        f'<ul class="facts">{line}</ul>{seen}{warning}'
        "<details><summary>As the model will read it</summary>"
        f'<ol class="blocks">{blocks}</ol></details>'
    )


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


def _begin(block: str) -> str:
    return block if len(block) <= _SHOWN_CHARACTERS else block[:_SHOWN_CHARACTERS] + "…"
