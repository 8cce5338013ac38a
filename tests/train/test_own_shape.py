"""A new model of one's own shape: made, trained, saved, and opened by transformers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2.errors import UserError
from gpt2.folder import empty_model, load_model
from gpt2.model import SIZES, ModelConfig
from train.__main__ import main
from train.own_shape import OwnShape
from train.run_folder import RunFolder

TOY = ["--preset", "shakespeare-char-cpu", "--steps", "2", "--batch-size", "2"]
TOY += ["--evaluate-every", "0", "--sample-every", "0", "--precision", "float32"]


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("It was a bright cold day in April, and the clocks said nothing. " * 40)
    return file


def test_124m_untied_and_without_qkv_biases_has_163009536_parameters():
    """The size that many count of "124M": 38,597,376 of the output matrix more, 27,648 less."""
    shape = OwnShape(untied=True, qkv_bias=False).of(SIZES["124M"])
    assert empty_model(shape).parameter_count() == 163_009_536
    assert empty_model(OwnShape().of(SIZES["124M"])).parameter_count() == 124_439_808


def test_the_preset_gives_what_is_not_said():
    preset = ModelConfig(n_layer=2, n_head=2, n_embd=8, n_positions=16)
    assert OwnShape().of(preset) == preset
    own = OwnShape(layers=3, heads=4, width=12, context=32).of(preset)
    assert own == replace(preset, n_layer=3, n_head=4, n_embd=12, n_positions=32)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"width": 100, "heads": 3}, "width of 100 cannot be shared by 3 heads"),
        ({"heads": 5}, "width of 128 cannot be shared by 5 heads"),
        ({"layers": 0}, "layers must be a whole number from 1 to 1,000"),
        ({"layers": 1001}, "layers must be"),
        ({"width": 70_000}, "width must be"),
        ({"context": -1}, "context must be"),
        ({"heads": 2.5}, "heads must be"),
        ({"untied": 1}, "untied must be true or false"),
    ],
)
def test_shapes_that_cannot_be_are_refused_in_words(own, words):
    with pytest.raises(UserError, match=words):
        OwnShape(**own).of(ModelConfig(n_layer=4, n_head=4, n_embd=128, n_positions=64))


def test_a_model_of_such_a_shape_is_the_same_in_transformers(text, tmp_path, call_here):
    run = tmp_path / "run"
    own = ["--layers", "3", "--heads", "3", "--width", "24", "--context", "32"]
    own += ["--untied", "--no-qkv-bias"]
    status, _, error = call_here(
        main, "run", "--data", str(text), "--out", str(run), *TOY, *own, "--device", "cpu"
    )
    assert status == 0, error
    model, _ = load_model(run / "model", dtype="float32")
    shape = model.config
    assert (shape.n_layer, shape.n_head, shape.n_embd, shape.n_positions) == (3, 3, 24, 32)
    assert RunFolder(run).description().train.block_size == 32  # the whole context is trained
    described = json.loads((run / "model" / "config.json").read_text())
    assert described["tie_word_embeddings"] is False
    assert not shape.qkv_bias
    theirs = GPT2LMHeadModel.from_pretrained(run / "model", dtype=torch.float32).eval()
    assert not torch.equal(theirs.lm_head.weight, theirs.transformer.wte.weight)
    tokens = torch.randint(0, shape.vocab_size, (2, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (model(tokens) - theirs(tokens).logits).abs().max() < 1e-5
    status, _, error = call_here(main, "run", "--out", str(run), "--resume", "--steps", "3")
    assert status == 0, error


def test_a_context_longer_than_the_blocks_is_said_to_be_untrained(text, tmp_path, call_here):
    run = tmp_path / "run"
    own = ["--context", "96", "--block-size", "32", "--layers", "1"]
    status, _, error = call_here(main, "run", "--data", str(text), "--out", str(run), *TOY, *own)
    assert status == 0, error
    assert "window is 96 tokens, and in blocks of 32 it never learns its later positions" in error


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--heads", "3"], "width of 128 cannot be shared by 3 heads"),
        (["--width", "wide"], "width must be a whole number"),
        (["--context", "32", "--block-size", "64"], "64 does not fit into a context of 32"),
        (["--stride", "64", "--context", "32"], "stride must be at most block_size"),
    ],
)
def test_what_does_not_go_together_is_one_line(text, tmp_path, call_here, flags, words):
    out = tmp_path / "new"
    status, _, error = call_here(main, "run", "--data", str(text), "--out", str(out), *TOY, *flags)
    assert status == 2
    assert words in error
    assert len(error.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("flag", [["--layers", "2"], ["--untied"], ["--no-qkv-bias"]])
def test_a_model_that_exists_keeps_its_shape(text, tmp_path, call_here, base, flag):
    where = ["--data", str(text), "--out", str(tmp_path / "new")]
    status, _, error = call_here(main, "run", *where, "--model", str(base), *flag)
    assert status == 2
    assert "A model that exists has its shape" in error
    status, _, error = call_here(main, "run", "--out", str(tmp_path), "--resume", *flag)
    assert status == 2
    assert f"{flag[0]} has no effect beside --resume" in error
