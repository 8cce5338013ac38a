"""A model in transformers.js' layout, run by onnxruntime beside ours."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from gpt2.folder import save_model
from gpt2.formats import onnx_write
from gpt2.formats.onnx_graph import build_onnx
from gpt2.formats.onnx_write import empty_past
from gpt2.formats.outgoing import export_model
from gpt2.hub.resolve import STORYTELLER_FOLDER
from gpt2.model import GPT2

RELATIVE = {
    "n_inner": 50, "layer_norm_epsilon": 1e-3, "exact_gelu": True, "qkv_bias": False,
    "tie_word_embeddings": False, "scale_attn_by_inverse_layer_idx": True, "n_layer": 3,
}  # fmt: skip


class Runner:
    """What transformers.js does: presents become the past of the next call."""

    def __init__(self, model: GPT2, graph: object, batch: int = 1) -> None:
        data = graph if isinstance(graph, str) else graph.SerializeToString()
        self.session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        self.past = empty_past(model.config, batch)
        self.outputs = [output.name for output in self.session.get_outputs()]

    def __call__(self, tokens, mask, positions) -> torch.Tensor:
        feeds = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions}
        feeds = {name: np.asarray(values, np.int64) for name, values in feeds.items()}
        logits, *present = self.session.run(self.outputs, feeds | self.past)
        self.past = dict(zip(self.past, present))
        return torch.from_numpy(logits)


@pytest.mark.parametrize("shape", [{}, RELATIVE], ids=["plain", "relative"])
@torch.inference_mode()
def test_logits_are_ours_all_at_once_and_token_by_token(shape, make_model):
    model = make_model(**shape)
    graph = build_onnx(model)
    onnx.checker.check_model(graph, full_check=True)
    tokens = torch.arange(40)[None] * 7 % 97
    expected = model(tokens)
    assert expected.std() > 0.1
    at_once = Runner(model, graph)(tokens, np.ones((1, 40)), np.arange(40)[None])
    assert (at_once - expected).abs().max() <= 1e-4
    run, parts, begin = Runner(model, graph), [], 0
    for count in (17, 4, *[1] * 19):
        end = begin + count
        positions = np.arange(begin, end)[None]
        parts.append(run(tokens[:, begin:end], np.ones((1, end)), positions))
        begin = end
    assert (torch.cat(parts, 1) - expected).abs().max() <= 1e-4


@torch.inference_mode()
def test_texts_of_different_lengths_padded_on_the_left_do_not_see_the_padding(make_model):
    model = make_model()
    tokens = torch.arange(20).reshape(2, 10)
    mask = np.ones((2, 10))
    mask[1, :4] = 0
    positions = np.maximum(mask.cumsum(-1) - 1, 0)
    run = Runner(model, build_onnx(model), batch=2)
    logits = run(tokens, mask, positions)
    assert (logits[0] - model(tokens[:1])[0]).abs().max() <= 1e-4
    assert (logits[1, 4:] - model(tokens[1:, 4:])[0]).abs().max() <= 1e-4


def test_the_folder_has_what_transformers_js_looks_for(make_model, tmp_path):
    notes = export_model(str(STORYTELLER_FOLDER), tmp_path / "out", "onnx")
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    wanted = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names >= wanted | {"onnx/model.onnx", "onnx/model_quantized.onnx"}
    assert "logits differ by" in notes[0]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    sizes = [(tmp_path / "out" / "onnx" / name).stat().st_size
             for name in ("model.onnx", "model_quantized.onnx")]  # fmt: skip
    assert sizes[1] < sizes[0] / 2
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "onnx" / "model.onnx"))
    inputs = {one.name: one.shape for one in session.get_inputs()}
    assert list(inputs)[:3] == ["input_ids", "attention_mask", "position_ids"]
    assert inputs["past_key_values.3.value"] == [
        "batch_size", config["n_head"], "past_sequence_length",
        config["n_embd"] // config["n_head"],
    ]  # fmt: skip
    # An embedding that is the head is in the file once.
    assert sizes[0] < 4.1 * (8192 + 256) * 256 + 4.1 * 4 * 12 * 256 * 256


@pytest.mark.parametrize("large", [False, True], ids=["one file", "weights beside it"])
def test_int8_stays_close(large, make_model, tmp_path, characters, monkeypatch):
    """Rounding of weights, not a broken graph: both rank the same token first nearly always. Beyond
    2 GB, protobuf's limit, the weights are a file of their own, under transformers.js' name."""
    monkeypatch.setattr(onnx_write, "_MOST_BYTES", 0 if large else 10**9)
    model = make_model(n_embd=48, scale=0.15)
    save_model(tmp_path / "model", model, characters)
    export_model(str(tmp_path / "model"), tmp_path / "out", "onnx")
    run = Runner(model, str(tmp_path / "out" / "onnx" / "model_quantized.onnx"))
    assert (tmp_path / "out" / "onnx" / "model.onnx_data").is_file() == large
    tokens = torch.arange(40)[None] * 7 % 97
    rounded = run(tokens, np.ones((1, 40)), np.arange(40)[None])
    with torch.no_grad():
        expected = model(tokens)
    assert (rounded - expected).abs().max() < 0.15 * expected.abs().max()
    assert (rounded.argmax(-1) == expected.argmax(-1)).float().mean() > 0.8
