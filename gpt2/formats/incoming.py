"""A model of another program to a model folder, which is kept only if it equals its source."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from gpt2.errors import UserError
from gpt2.files import expand_home, new_folder, require_free_space, require_unused
from gpt2.folder import DTYPES, has_weights, load_model_shape, write_description
from gpt2.foreign import explain_foreign
from gpt2.formats.foreign_model import ForeignModel, Hints
from gpt2.formats.gguf_read import open_gguf
from gpt2.formats.keras_hub import KERAS_FILE, is_keras_preset, open_keras_preset
from gpt2.formats.llm_c import is_llm_c, open_llm_c
from gpt2.formats.pytorch_read import BIN_FILE, BIN_INDEX, open_bin_folder, open_pytorch_file
from gpt2.formats.state_dict import state_shapes
from gpt2.model_card import CardFacts, write_card
from gpt2.openai.convert import Conversion
from gpt2.openai.tensor_file import write_tensors
from gpt2.temporary import temp_folder

_PICKLE_ENDS = (".pt", ".pth", ".ckpt", ".bin", ".tar")
_NO_HINTS = Hints()


def is_foreign(source: str) -> bool:
    """Whether there is something at `source` that `convert_foreign` opens or explains; OpenAI's
    releases are `gpt2.openai.convert`'s."""
    path = expand_home(source)
    return path.is_file() or (path.is_dir() and _weights_in(path) is not None)


def convert_foreign(
    source: str | Path, folder: str | Path, dtype: str = "float32", hints: Hints = _NO_HINTS
) -> tuple[Conversion, ForeignModel]:
    """Write the model folder `folder` from a file or folder of another program.

    Every value is then read back and compared. `UserError` if the source is not exactly a GPT-2,
    if it takes one of `hints`, or if `folder` exists; nothing is left behind then.
    """
    folder = expand_home(folder)
    if dtype not in DTYPES:
        raise UserError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}.")
    require_unused(folder)
    model = open_foreign(expand_home(source), hints)
    shapes = state_shapes(model.config)
    count = sum(math.prod(shape) for shape in shapes.values())
    require_free_space(folder, count * DTYPES[dtype].itemsize)
    with new_folder(folder) as aside:
        digest = _write(model, shapes, aside, DTYPES[dtype])
        write_card(aside, _card_facts(model, dtype, digest))
        size = (aside / "model.safetensors").stat().st_size
    return Conversion(folder, count, size, digest), model


@contextmanager
def as_model_folder(name: str) -> Iterator[str]:
    """The name of a model as it is, or, of another program's, that of a folder made for as long as
    the block takes. `UserError` where the source leaves something open."""
    if not is_foreign(name):
        yield name
        return
    with temp_folder() as scratch:
        try:
            convert_foreign(name, scratch / "model")
        except UserError as error:
            raise UserError(
                f"{error} Options for the source are those of: python -m gpt2 convert"
            ) from None
        yield str(scratch / "model")


def open_foreign(source: Path, hints: Hints = _NO_HINTS) -> ForeignModel:
    """The model at `source`, whichever of the formats it is in. `UserError` names what it is
    where it is none of them."""
    path = source
    if source.is_dir():
        found = _weights_in(source)
        if found is None:
            raise UserError(explain_foreign(source))
        if found.name in (BIN_FILE, BIN_INDEX):
            return open_bin_folder(source, hints)
        if found.name == KERAS_FILE:
            return open_keras_preset(source, hints)
        path = found
    try:
        with open(path, "rb") as file:
            begin = file.read(8)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    if begin[:4] == b"GGUF":
        return open_gguf(path, hints)
    if is_llm_c(path):
        return open_llm_c(path, hints)
    is_pickle = begin[:1] == b"\x80" or zipfile.is_zipfile(path)
    if path.suffix == ".safetensors" or (is_pickle and path.suffix in _PICKLE_ENDS):
        return open_pytorch_file(path, hints)
    raise UserError(explain_foreign(path))


def _weights_in(folder: Path) -> Path | None:
    """What in a folder holds its weights: Hugging Face's .bin, or the only file that could. None
    where it is a model folder already, or nothing of these."""
    if has_weights(folder):
        return None
    if is_keras_preset(folder):
        return folder / KERAS_FILE
    described = (folder / "config.json").is_file()
    for name in (BIN_FILE, BIN_INDEX) if described else ():
        if (folder / name).is_file():
            return folder / name
    ends = (*_PICKLE_ENDS, ".gguf", ".safetensors")
    files = [path for path in sorted(folder.iterdir()) if path.suffix in ends and path.is_file()]
    named = [path for path in files if path.name in ("ckpt.pt", "model.pt")]
    if len(files) > 1 and len(named) != 1:
        names = ", ".join(path.name for path in files[:5])
        raise UserError(f"{folder} has several files of weights: {names}. Give one of them.")
    return next(iter(named or files), None)


def _write(
    model: ForeignModel, shapes: dict[str, tuple[int, ...]], folder: Path, dtype: torch.dtype
) -> str:
    """Fill `folder`, check it, and return the weights' sha256."""

    def read(name: str) -> Tensor:
        stored = model.read(name)
        tensor = stored.to(dtype)
        if not math.isfinite(tensor.abs().max()):
            kind = str(dtype).removeprefix("torch.")
            raise UserError(f"{name} holds values that {kind} cannot. Use bfloat16 or float32.")
        return tensor

    write_description(folder, model.config, model.tokenizer, dtype)
    weights = folder / "model.safetensors"
    digest = write_tensors(weights, shapes, dtype, read)
    with safe_open(weights, framework="pt", backend="pread") as file:
        for name in shapes:
            if not torch.equal(file.get_tensor(name), model.read(name).to(dtype)):
                raise UserError(f"The self-check failed: {name} was not written as it was read.")
    config, _ = load_model_shape(folder)
    if config != model.config:
        raise UserError("The self-check failed: the written config.json describes another model.")
    return digest


def _card_facts(model: ForeignModel, dtype: str, digest: str) -> CardFacts:
    return CardFacts(
        title="GPT-2, converted",
        description=(
            f"Converted from {model.kind} to {dtype}, without any training. After writing, every "
            "value was read back and compared with the source's."
        ),
        sha256=digest,
    )
