"""A model folder in transformers.js' layout: its texts, onnx/model.onnx, and the same in int8.

Both are run before they are kept, and compared with the model that they are to be.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt2.errors import UserError
from gpt2.folder import write_description
from gpt2.formats.onnx_graph import build_onnx, import_onnx, past_names
from gpt2.model import GPT2, ModelConfig
from gpt2.temporary import temp_folder
from gpt2.tokenizer import Tokenizer

ONNX_FOLDER, ONNX_FILE, ONNX_INT8_FILE = "onnx", "model.onnx", "model_quantized.onnx"
_TOLERANCE = 1e-3  # of a logit, relative to the largest; toys in float32 are at 1e-6
_MOST_BYTES = 1_800_000_000  # of one protobuf; beyond, weights lie in a file beside it


def write_onnx_folder(folder: Path, model: GPT2, tokenizer: Tokenizer) -> list[str]:
    """Fill an empty folder from a float32 model; what a person should know about it. `UserError`
    if the libraries are missing, or if onnxruntime does not compute what the model does."""
    import_onnx()
    write_description(folder, model.config, tokenizer, torch.float32)
    (folder / ONNX_FOLDER).mkdir()
    path, quantized = (folder / ONNX_FOLDER / name for name in (ONNX_FILE, ONNX_INT8_FILE))
    _save(build_onnx(model), path, model)
    with temp_folder() as scratch:
        _save(build_onnx(model, own_head=True), scratch / ONNX_FILE, model)
        _quantize(scratch / ONNX_FILE, quantized)
    exact, rounded = _difference(path, model), _difference(quantized, model)
    if exact > _TOLERANCE:
        raise UserError(
            f"The self-check failed: onnxruntime's logits differ by {exact:.2g} of the largest."
        )
    return [
        f"Run by onnxruntime: logits differ by {exact:.1g} of the largest in {ONNX_FILE}, by "
        f"{rounded:.1g} in {ONNX_INT8_FILE}."
    ]


def empty_past(config: ModelConfig, batch: int = 1) -> dict[str, np.ndarray]:
    """The inputs for past keys and values before the first token."""
    shape = (batch, config.n_head, 0, config.n_embd // config.n_head)
    return {name: np.zeros(shape, np.float32) for name, _ in past_names(config.n_layer)}


def _save(graph: object, path: Path, model: GPT2) -> None:
    is_large = 4 * model.parameter_count() > _MOST_BYTES
    beside = {"save_as_external_data": True, "location": f"{path.name}_data"} if is_large else {}
    import_onnx().save_model(graph, path, **beside)


def _quantize(path: Path, quantized: Path) -> None:
    """The four sizes of GPT-2 are small enough in int8 for one file."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it advises a step that this graph does not need
    try:
        # A scale for each column: a third closer than one for each matrix, and hardly larger.
        quantize_dynamic(path, quantized, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logging.disable(logging.NOTSET)


@torch.inference_mode()
def _difference(path: Path, model: GPT2) -> float:
    """The largest difference of a logit, relative to the largest logit, over a few tokens."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    count = min(8, model.config.n_positions)
    tokens = torch.arange(count)[None] * 7919 % model.config.vocab_size
    feeds = {
        "input_ids": tokens.numpy(),
        "attention_mask": np.ones((1, count), np.int64),
        "position_ids": np.arange(count)[None],
    }
    (logits,) = session.run(["logits"], feeds | empty_past(model.config))
    expected: Tensor = model(tokens)
    return float((torch.from_numpy(logits) - expected).abs().max() / expected.abs().max())
