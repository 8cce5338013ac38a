"""A checkpoint as a model folder, and a model folder as a zip."""

from __future__ import annotations

import re
import secrets
import shutil
import zipfile
from pathlib import Path

from gpt2.errors import UserError
from gpt2.folder import save_model
from gpt2.model import GPT2
from gpt2.tokenizer import load_tokenizer
from service.request import as_whole, show
from train.checkpoint import fill_weights
from train.config import TrainConfig
from train.distributed import World
from train.job import build_model
from train.lora import merged
from train.run_folder import RunFolder

_GONE = "There is no checkpoint at this step (any more). Choose another."


def parse_step(step: object, run: RunFolder) -> int:
    """The step of one of the run's checkpoints. `UserError` for anything else."""
    whole = as_whole(step)
    if type(whole) is not int:
        raise UserError(f"step must be the step of a checkpoint, not {show(step)}.")
    if whole not in run.steps():
        raise UserError(_GONE)
    return whole


def export_checkpoint(run: RunFolder, step: int) -> Path:
    """The model folder of one of the run's checkpoints, made once. `UserError` if it is broken."""
    target = run.path / "exports" / f"step-{step}"
    if target.is_dir():
        return target
    if not run.verify(step):
        raise UserError(_GONE)
    aside = target.with_name(f".tmp-{secrets.token_hex(8)}")
    try:
        save_model(aside, _model_at(run, step), load_tokenizer(run.tokens))
        aside.replace(target)
    except (OSError, KeyError) as error:
        if not target.is_dir():  # another caller may have made it meanwhile
            raise UserError(f"The model at step {step} could not be written: {error}.") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _model_at(run: RunFolder, step: int) -> GPT2:
    described = run.description()
    model = build_model(described, TrainConfig(**described["train"]), World())
    fill_weights(model, run.load(step).model)
    return merged(model)


def zip_folder(folder: Path, downloads: Path, name: str) -> Path:
    """NAME.zip of a model folder, under one directory NAME, in a new random directory."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:80] or "model"
    place = downloads / secrets.token_hex(16)
    place.mkdir(parents=True)
    try:
        # Weights do not compress: stored, a gigabyte takes seconds instead of a minute.
        with zipfile.ZipFile(place / f"{name}.zip", "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(folder.iterdir()):
                if path.is_file():
                    archive.write(path, f"{name}/{path.name}")
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return place / f"{name}.zip"
