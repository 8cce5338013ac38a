"""Low-rank updates: what `peft` makes of the adapter that we write, and what the merge does."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from gpt2.errors import UserError
from gpt2.folder import load_model, save_model
from train.config import TrainConfig
from train.lora import LoraLinear, add_lora, merged, save_adapter

TOKENS = torch.arange(40).view(2, 20) % 97


def adapted(model, targets="c_attn,c_proj,c_fc"):
    config = TrainConfig(lora_rank=3, lora_alpha=6.0, lora_targets=targets)
    add_lora(model, config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:  # B starts at zero, which would hide everything
            parameter.data.normal_(0.0, 0.3, generator=generator)
    return config


@pytest.mark.parametrize("targets", ["c_attn,c_proj,c_fc", "c_attn"])
def test_peft_opens_the_adapter_and_computes_the_same(make_model, characters, tmp_path, targets):
    model = make_model(dtype=torch.float64)
    save_model(tmp_path / "base", model, characters)
    config = adapted(model, targets)
    save_adapter(tmp_path / "adapter", model, config)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float64)
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        difference = (theirs(TOKENS).logits - model(TOKENS)).abs().max()
    assert difference < 1e-9


def test_the_merged_model_is_an_ordinary_folder_with_the_same_logits(
    make_model, characters, tmp_path
):
    model = make_model(dtype=torch.float64)
    before = model(TOKENS)
    adapted(model)
    assert (model(TOKENS) - before).abs().max() > 0.1
    save_model(tmp_path, merged(model), characters)
    again, _ = load_model(tmp_path, dtype=torch.float64)
    assert (again(TOKENS) - model(TOKENS)).abs().max() < 1e-9


def test_an_update_begins_as_the_base_model(make_model):
    model = make_model()
    before = model(TOKENS)
    add_lora(model, TrainConfig(lora_rank=4))
    assert torch.equal(model(TOKENS), before)
    layers = [module for module in model.modules() if isinstance(module, LoraLinear)]
    assert len(layers) == 2 * 4
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {name for name, _ in model.named_parameters() if "lora_" in name}


def test_an_unknown_target_is_refused(make_model):
    with pytest.raises(UserError, match="'q_proj' is not one of c_attn, c_proj, c_fc"):
        add_lora(make_model(), TrainConfig(lora_rank=1, lora_targets="c_attn,q_proj"))
