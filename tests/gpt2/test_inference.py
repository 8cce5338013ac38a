"""Which numbers a model generates in."""

from __future__ import annotations

import argparse

import pytest
import torch

from gpt2.command_line import add_format_option
from gpt2.errors import UserError
from gpt2.inference import INFERENCE_FORMATS, fastest_format, load_for_inference
from gpt2.model import SIZES, ModelConfig

CPU = torch.device("cpu")


@pytest.mark.parametrize(("has_bfloat16", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_a_large_model_takes_bfloat16_where_the_processor_has_it(
    has_bfloat16, expected, monkeypatch
):
    """The page computed 124M in float32 everywhere: 36 ms a token in place of 20."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bfloat16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert fastest_format(SIZES["124M"], CPU) == expected
    assert fastest_format(ModelConfig(8192, 256, 256, 4, 4), CPU) == "float32"
    assert fastest_format(SIZES["124M"], torch.device("cuda")) == "auto"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_format_can_be_chosen(dtype, base):
    model, _ = load_for_inference(str(base), "cpu", dtype)
    assert model.wte.weight.dtype == getattr(torch, dtype)


def test_the_flag_has_the_formats(base, capsys):
    parser = argparse.ArgumentParser()
    add_format_option(parser)
    (flag,) = [action for action in parser._actions if action.dest == "dtype"]
    assert tuple(flag.choices) == INFERENCE_FORMATS
    with pytest.raises(UserError, match="dtype must be"):
        load_for_inference(str(base), "cpu", "int3")
