"""Zips of models for the browser: each in a random directory of the one folder that gradio serves,
made when asked for and swept after an hour."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from gradio.utils import get_upload_folder

from service.runs import Runs

_PREFIX = "download-"


def make_download(runs: Runs, run_id: str, step: int | None) -> Path:
    """The zip, named after its model. `UserError` as `Runs.zip_model`."""
    folder = Path(get_upload_folder())
    made = runs.zip_model(run_id, step)
    aside = folder / f"{_PREFIX}{secrets.token_hex(16)}"
    aside.mkdir(parents=True)
    return Path(shutil.move(made, aside / made.name))
