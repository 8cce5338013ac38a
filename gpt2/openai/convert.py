"""OpenAI's released checkpoint to a model folder, which is kept only if it equals its source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from gpt2.errors import UserError
from gpt2.files import expand_home, new_folder, require_free_space, require_unused
from gpt2.folder import DTYPES, load_model_shape, write_description
from gpt2.foreign import ABOUT_PICKLE, find_pickle
from gpt2.hub.names import size_named
from gpt2.model import SIZES
from gpt2.model_card import CardFacts, write_card
from gpt2.openai.checkpoint import OpenAICheckpoint, compare, import_tensorflow, to_tensor
from gpt2.openai.release import fetch_release
from gpt2.openai.tensor_file import file_header, write_tensors

OPENAI_LICENSE = "https://github.com/openai/gpt-2/blob/master/LICENSE"


@dataclass(frozen=True)
class Conversion:
    """What `convert` made."""

    folder: Path
    parameters: int
    bytes: int  # of model.safetensors
    sha256: str  # of model.safetensors


def convert(source: str, folder: str | Path, dtype: str = "float32") -> Conversion:
    """Write the model folder `folder` from a release ("124M", ...) or a checkpoint's directory.

    Only one tensor at a time is in memory. Every value is then read back and compared. `UserError`
    if the source is not exactly a GPT-2 checkpoint or `folder` exists; nothing is left behind.
    """
    folder = expand_home(folder)
    if dtype not in DTYPES:
        raise UserError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}.")
    require_unused(folder)
    source = _size_or_directory(source)
    import_tensorflow()  # before half a gigabyte is downloaded for nothing
    checkpoint = OpenAICheckpoint(fetch_release(source) if source in SIZES else Path(source))
    if source in SIZES and checkpoint.config != SIZES[source]:
        raise UserError(f"{checkpoint.directory} has a different model than {source}.")
    with new_folder(folder) as aside:
        digest = _write(checkpoint, aside, DTYPES[dtype])
        facts = _card_facts(source, checkpoint, dtype, digest)
        write_card(aside, facts)
        size = (aside / "model.safetensors").stat().st_size
    parameters = sum(torch.Size(shape).numel() for shape in checkpoint.shapes.values())
    return Conversion(folder, parameters, size, digest)


def _size_or_directory(source: str) -> str:
    """The released size that `source` names, or the directory that it is."""
    directory = expand_home(source)
    if (directory / "hparams.json").is_file() and source not in SIZES:
        return str(directory)
    if size := size_named(source):
        return size
    if not directory.exists():
        raise UserError(
            f"There is no checkpoint {source!r}. Give a size ({', '.join(SIZES)}) or a directory "
            "with the files of a release."
        )
    if pickle := find_pickle(directory):
        raise UserError(f"{pickle} is not an OpenAI checkpoint but {ABOUT_PICKLE}.")
    if (directory / "config.json").is_file():
        raise UserError(f"{source} is a model folder already; there is nothing to convert.")
    return str(directory)


def _write(checkpoint: OpenAICheckpoint, folder: Path, dtype: torch.dtype) -> str:
    """Fill `folder` with a whole model, check it, and return the weights' sha256."""
    weights = folder / "model.safetensors"
    data_bytes = sum(torch.Size(shape).numel() for shape in checkpoint.shapes.values())
    header = len(file_header(checkpoint.shapes, dtype))
    require_free_space(folder, header + data_bytes * dtype.itemsize)
    write_description(folder, checkpoint.config, checkpoint.tokenizer, dtype)
    with tqdm(total=2 * len(checkpoint.rows), desc="converting", disable=None) as bar:

        def read(name: str) -> torch.Tensor:
            bar.update()
            return to_tensor(checkpoint.rows[name], checkpoint.read(name), dtype)

        digest = write_tensors(weights, checkpoint.shapes, dtype, read)
        bar.set_description("checking")
        compare(checkpoint, weights, dtype, bar.update)
    config, _ = load_model_shape(folder)
    if config != checkpoint.config:
        raise UserError("The self-check failed: the written config.json describes another model.")
    return digest


def _card_facts(source: str, checkpoint: OpenAICheckpoint, dtype: str, digest: str) -> CardFacts:
    name = f"GPT-2 {source}" if source in SIZES else f"GPT-2 from {checkpoint.directory.name}"
    origin = f"OpenAI's release of {source}" if source in SIZES else "an OpenAI-format checkpoint"
    return CardFacts(
        title=name,
        license="other" if source in SIZES else None,
        license_name="modified-mit" if source in SIZES else None,
        license_link=OPENAI_LICENSE if source in SIZES else None,
        description=(
            f"Converted from {origin} (TensorFlow) to {dtype}, without any training. After "
            "writing, every value was read back and compared with the checkpoint's."
        ),
        sha256=digest,
    )
