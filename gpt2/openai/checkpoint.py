"""OpenAI's TensorFlow checkpoint: read tensor by tensor, compared, and written.

The only module that knows TensorFlow, and it imports it only when a checkpoint is opened. Names and
shapes come from `names.name_map`. Values are in the same order on both sides, so converting a
matrix only drops the leading 1 of its shape.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from gpt2.errors import UserError
from gpt2.folder import is_finite, load_model
from gpt2.model import ModelConfig
from gpt2.openai.names import (
    HPARAMS,
    PREFIX,
    Row,
    name_map,
    read_hparams,
    read_tokenizer,
    write_release_texts,
)
from gpt2.tokenizer import BytePairTokenizer

DATA, INDEX = ".data-00000-of-00001", ".index"


class OpenAICheckpoint:
    """An OpenAI checkpoint on disk whose names, shapes, types and size have been checked.

    `UserError` names what is missing, unknown, misshapen or truncated. Only the index is read here.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = read_hparams(directory / "hparams.json")
        self.tokenizer = read_tokenizer(directory, self.config)
        self.rows = {row.tensor: row for row in name_map(self.config)}
        prefix = _prefix(directory)
        self._tf = import_tensorflow()
        try:
            self._reader = self._tf.train.load_checkpoint(str(prefix))
            shapes = self._reader.get_variable_to_shape_map()
            types = self._reader.get_variable_to_dtype_map()
        except (self._tf.errors.OpError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{prefix}{INDEX} is not a readable checkpoint index: {error}."
            ) from None
        self._check_variables(shapes, types)
        self._check_size(Path(f"{prefix}{DATA}"))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor names and shapes of the model folder."""
        return {name: row.shape for name, row in self.rows.items()}

    def read(self, tensor: str) -> np.ndarray:
        """The variable of a tensor, in the checkpoint's own shape. `UserError` if it is damaged."""
        row = self.rows[tensor]
        try:
            values = self._reader.get_tensor(row.variable)  # TensorFlow checks the CRC32C
        except (self._tf.errors.OpError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{self.directory}: the variable {row.variable} cannot be read; the data file is "
                f"damaged or belongs to another index ({reason})."
            ) from None
        if not is_finite(torch.from_numpy(values)):
            raise UserError(
                f"{self.directory}: the variable {row.variable} holds values that are not finite "
                "(NaN or infinity)."
            )
        return values

    def _check_variables(self, shapes: dict[str, list[int]], types: dict) -> None:
        rows = {row.variable: row for row in self.rows.values()}
        hparams = (
            f"what hparams.json says ({self.config.n_layer} layers, {self.config.n_embd} wide)"
        )
        for name in sorted(rows):
            if name not in shapes:
                raise UserError(
                    f"{self.directory}: the variable {name} is missing; {hparams} needs it."
                )
        for name in sorted(shapes):
            if name not in rows:
                raise UserError(
                    f"{self.directory}: the variable {name} is unknown; {hparams} does not have it."
                )
            if types[name] != self._tf.float32:
                raise UserError(
                    f"{self.directory}: the variable {name} is {types[name].name}, not float32."
                )
            if tuple(shapes[name]) != rows[name].stored_shape:
                raise UserError(
                    f"{self.directory}: the variable {name} has the shape {list(shapes[name])}, "
                    f"not {list(rows[name].stored_shape)}, which hparams.json asks for."
                )

    def _check_size(self, data: Path) -> None:
        wanted = sum(4 * math.prod(row.shape) for row in self.rows.values())
        if (size := data.stat().st_size) != wanted:
            word = "truncated" if size < wanted else "too long"
            raise UserError(f"{data} is {word}: it has {size:,} bytes, not {wanted:,}.")


def to_tensor(row: Row, values: np.ndarray, dtype: torch.dtype) -> Tensor:
    """A variable as a model folder's tensor. `UserError` if `dtype` cannot hold its values."""
    tensor = torch.from_numpy(values).reshape(row.shape).to(dtype)
    if not is_finite(tensor):
        raise UserError(f"{row.variable} holds values that {_name(dtype)} cannot. Use bfloat16.")
    return tensor


def compare(
    checkpoint: OpenAICheckpoint, weights: Path, dtype: torch.dtype, step: Callable[[], object]
) -> None:
    """Read a written file back, tensor by tensor, and compare each value with the checkpoint's.

    `step` is called after each. This does not use `to_tensor`: both sides store values in the same
    order, so they must be equal when flat, and a transposed matrix shows, square or not.
    """
    with safe_open(weights, framework="pt", backend="pread") as file:
        if set(file.keys()) != set(checkpoint.rows):
            raise UserError(f"{weights} does not hold the checkpoint's tensors.")
        for name, row in checkpoint.rows.items():
            expected = torch.from_numpy(checkpoint.read(name)).flatten().to(dtype)
            written = file.get_tensor(name)
            same = tuple(written.shape) == row.shape and written.dtype == dtype
            if not same or not torch.equal(written.flatten(), expected):
                raise UserError(
                    f"The self-check failed: {name} as written is not the checkpoint's "
                    f"{row.variable}. Nothing was kept."
                )
            step()


def write_checkpoint(folder: str | Path, directory: str | Path) -> None:
    """The reverse: a model folder as a checkpoint with OpenAI's names, files and shapes.

    TensorFlow writes it as float32, with the whole model in memory. The graph (.meta) is left out;
    OpenAI's code does not read it. `UserError` for a model that the format cannot hold.
    """
    tf = import_tensorflow()
    model, tokenizer = load_model(folder, device="cpu", dtype=torch.float32)
    if not isinstance(tokenizer, BytePairTokenizer) or not model.config.tie_word_embeddings:
        raise UserError(
            f"{folder} cannot be an OpenAI checkpoint: those have byte pairs and a tied head only."
        )
    plain = ModelConfig(**{name: getattr(model.config, name) for name in HPARAMS.values()})
    if replace(model.config, dropout=0.0, qkv_bias=True) != plain:
        raise UserError(
            f"{folder} cannot be an OpenAI checkpoint: that has no place for another width of the "
            "MLP, epsilon, GELU or scale of attention."
        )
    if not tokenizer.is_plain:
        raise UserError(
            f"{folder} cannot be an OpenAI checkpoint: that has no place for added tokens and "
            "other settings of a tokenizer."
        )
    if tokenizer.vocab_size != model.config.vocab_size:
        raise UserError(f"{folder}: the tokenizer and the model differ in their number of tokens.")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    zeros = torch.zeros(3 * model.config.n_embd)  # a model without QKV biases has none
    rows = sorted(name_map(model.config), key=lambda row: row.variable)
    values = [state.get(row.tensor, zeros).reshape(row.stored_shape).numpy() for row in rows]
    tf.raw_ops.SaveV2(
        prefix=str(directory / PREFIX),
        tensor_names=[row.variable for row in rows],
        shape_and_slices=[""] * len(rows),
        tensors=values,
    )
    write_release_texts(directory, model.config, tokenizer)


def import_tensorflow():
    """TensorFlow, or a clear message that it has to be installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Its note about oneDNN comes before that level is read, and we have no use for oneDNN here.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import tensorflow
    except ImportError:
        raise UserError(
            "Reading OpenAI's checkpoints takes TensorFlow, which is not installed (nothing else "
            "needs it): pip install tensorflow-cpu, then try again."
        ) from None
    return tensorflow


def _prefix(directory: Path) -> Path:
    """Where the variables are: at the name in the file `checkpoint`, or at OpenAI's own name."""
    prefix = directory / PREFIX
    if not Path(f"{prefix}{INDEX}").is_file() and (directory / "checkpoint").is_file():
        latest = import_tensorflow().train.latest_checkpoint(str(directory))
        if latest and Path(latest).parent == directory:  # never a file elsewhere
            prefix = Path(latest)
    for end in (INDEX, DATA):
        if not Path(f"{prefix}{end}").is_file():
            raise UserError(
                f"{directory} is not an OpenAI checkpoint: {prefix.name}{end} is missing."
            )
    return prefix


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
