"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): train x A B next to a frozen x W."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gpt2.errors import UserError
from gpt2.files import write_json
from gpt2.folder import empty_model
from gpt2.model import GPT2, Linear
from train.config import TrainConfig

MATRICES = ("c_attn", "c_proj", "c_fc")


class LoraLinear(Linear):
    """A `Linear` that keeps its own parameters and their names, plus a low-rank update."""

    def __init__(self, base: Linear, rank: int, alpha: float, dropout: float) -> None:
        nn.Module.__init__(self)
        n_in, n_out = base.weight.shape
        self.weight, self.bias = base.weight, base.bias
        self.lora_A = nn.Parameter(base.weight.new_empty(n_in, rank))
        self.lora_B = nn.Parameter(base.weight.new_zeros(rank, n_out))  # starts as the base model
        nn.init.kaiming_uniform_(self.lora_A.t(), a=math.sqrt(5))
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.dropout(x) @ self.lora_A @ self.lora_B * self.scale

    @torch.no_grad()
    def merged(self) -> Linear:
        """A plain layer with the update added to a copy of the weight."""
        plain = Linear(*self.weight.shape, bias=self.bias is not None).to(self.weight)
        plain.weight.copy_(self.weight + self.lora_A @ self.lora_B * self.scale)
        if self.bias is not None:
            plain.bias.copy_(self.bias)
        return plain


def add_lora(model: GPT2, config: TrainConfig) -> None:
    """Freeze `model` and add updates to the matrices that the config names, in place."""
    targets = [target.strip() for target in config.lora_targets.split(",")]
    if unknown := [target for target in targets if target not in MATRICES]:
        raise UserError(f"lora_targets: {unknown[0]!r} is not one of {', '.join(MATRICES)}.")
    model.requires_grad_(False)
    for block in model.h:
        for parent in (block.attn, block.mlp):
            for name, layer in list(parent.named_children()):
                if name in targets:
                    update = LoraLinear(layer, config.lora_rank, config.lora_alpha, config.dropout)
                    setattr(parent, name, update)


def merged(model: GPT2) -> GPT2:
    """The model itself or, if it has low-rank updates, one with plain layers; other weights are
    shared."""
    if not any(isinstance(module, LoraLinear) for module in model.modules()):
        return model
    plain = empty_model(model.config)
    state = {name: tensor for name, tensor in model.state_dict().items() if "lora_" not in name}
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            state[f"{name}.weight"] = module.merged().weight.detach()
    plain.load_state_dict(state, strict=True, assign=True)
    return plain.eval()


def save_adapter(folder: Path, model: GPT2, config: TrainConfig) -> None:
    """The updates alone, as `peft` stores them for transformers' GPT-2."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"base_model.model.transformer.{name}.weight": value.detach().cpu().t().contiguous()
        for name, value in model.named_parameters()
        if "lora_" in name
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    targets = [target.strip() for target in config.lora_targets.split(",")]
    description = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": config.lora_rank,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.dropout,
        "target_modules": targets,
        "fan_in_fan_out": True,  # GPT-2 stores its matrices (in, out)
        "bias": "none",
        "inference_mode": True,
    }
    write_json(folder / "adapter_config.json", description)
