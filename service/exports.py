"""A checkpoint as a model folder, and a model folder as a zip."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import zipfile
from pathlib import Path

from gpt2.errors import UserError
from gpt2.files import ASIDE, replacing_folder
from gpt2.folder import save_model
from gpt2.model import GPT2
from gpt2.settings import Setting
from gpt2.tokenizer import load_tokenizer
from train.checkpoint import fill_weights
from train.distributed import World
from train.job import build_model
from train.lora import merged
from train.run_folder import RunFolder, holds_model

_STEP = Setting("of a checkpoint", name="step", kind="int", low=0)
_GONE = "There is no checkpoint at this step, or it no longer exists. Choose another."


def parse_step(step: object, run: RunFolder) -> int:
    """The step of one of the run's checkpoints. `UserError` for anything else."""
    whole = _STEP.parse(step)
    if whole not in run.checkpoints.steps():
        raise UserError(_GONE)
    return whole


def export_checkpoint(run: RunFolder, step: int) -> Path:
    """The model folder of one of the run's checkpoints, made once. `UserError` if it is broken."""
    target = run.path / "exports" / f"step-{step}"
    if holds_model(target):
        return target
    if not run.checkpoints.verify(step):
        raise UserError(_GONE)
    try:
        with replacing_folder(target, aside=f"{ASIDE}{secrets.token_hex(8)}") as aside:
            save_model(aside, _model_at(run, step), load_tokenizer(run.tokens))
    except (OSError, KeyError) as error:
        if not holds_model(target):  # another caller may have made it in the meantime
            raise UserError(f"The model at step {step} could not be written: {error}.") from None
    return target


def _model_at(run: RunFolder, step: int) -> GPT2:
    model = build_model(run.description(), World())
    fill_weights(model, run.checkpoints.load(step).model)
    return merged(model)


def zip_folder(folder: Path, downloads: Path, tag: str, name: str) -> Path:
    """NAME.zip of a model folder, under one directory NAME, in a random directory that begins with
    `tag`. One that was made before of the same folder is used again."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:80] or "model"
    written = (folder / "model.safetensors").stat().st_mtime
    for made in downloads.glob(f"{tag}-*/{name}.zip"):
        if made.stat().st_mtime > written:
            for kept in (made.parent, downloads):  # from now on
                os.utime(kept)
            return made
    place = downloads / f"{tag}-{secrets.token_hex(16)}"
    place.mkdir(parents=True)
    try:
        # Weights do not compress. Stored as they are, a gigabyte takes seconds instead of a minute.
        with zipfile.ZipFile(place / f"{name}.zip", "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(folder.iterdir()):
                if path.is_file():
                    archive.write(path, f"{name}/{path.name}")
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return place / f"{name}.zip"
