"""GPT-2 as other programs write it: their names, their order of matrices, their own computation.

Written anew after what these programs save, so that nothing of theirs is here; each computes its
logits by itself, without the model that is tested.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import h5py
import torch
from torch import Tensor, nn
from torch.nn import functional as F

VOCABULARY, WINDOW, WIDTH, LAYERS, HEADS = 65, 80, 24, 2, 3


def randomized(model: nn.Module, seed: int = 1) -> nn.Module:
    """Every parameter random; scales of norms around 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
            if any(word in name for word in ("ln_", "norm")) and not name.endswith(
                ("bias", "shift")
            ):
                parameter.add_(1.0)
    return model.eval()


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Causal attention written out; all (B, T, C)."""
    B, T, C = query.shape
    query, key, value = (
        x.reshape(B, T, heads, C // heads).transpose(1, 2) for x in (query, key, value)
    )
    scores = query @ key.transpose(-1, -2) / math.sqrt(C // heads)
    hidden = torch.ones(T, T, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return (weights @ value).transpose(1, 2).reshape(B, T, C)


def tanh_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class _Norm(nn.Module):
    """Layer norm with the names of LLMs-from-scratch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return self.scale * (x - mean) / torch.sqrt(variance + 1e-5) + self.shift


class KarpathyModel(nn.Module):
    """nanoGPT's names (`exact`, tied) and minGPT's (not): OpenAI's names with `nn.Linear`."""

    def __init__(self, nano: bool, bias: bool = True, vocabulary: int = VOCABULARY) -> None:
        super().__init__()
        blocks = nn.ModuleList()
        for _ in range(LAYERS):
            block = nn.ModuleDict()
            block["ln_1"] = nn.LayerNorm(WIDTH, bias=bias)
            block["attn"] = nn.ModuleDict()
            block["attn"]["c_attn"] = nn.Linear(WIDTH, 3 * WIDTH, bias=bias)
            block["attn"]["c_proj"] = nn.Linear(WIDTH, WIDTH, bias=bias)
            if not nano:
                block["attn"].register_buffer("bias", torch.ones(WINDOW, WINDOW).tril()[None, None])
            block["ln_2"] = nn.LayerNorm(WIDTH, bias=bias)
            block["mlp"] = nn.ModuleDict()
            block["mlp"]["c_fc"] = nn.Linear(WIDTH, 4 * WIDTH, bias=bias)
            block["mlp"]["c_proj"] = nn.Linear(4 * WIDTH, WIDTH, bias=bias)
            blocks.append(block)
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocabulary, WIDTH),
                "wpe": nn.Embedding(WINDOW, WIDTH),
                "h": blocks,
                "ln_f": nn.LayerNorm(WIDTH, bias=bias),
            }
        )
        self.lm_head = nn.Linear(WIDTH, vocabulary, bias=False)
        if nano:
            self.transformer["wte"].weight = self.lm_head.weight
        self.gelu = F.gelu if nano else tanh_gelu

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.transformer
        x = parts["wte"](tokens) + parts["wpe"](torch.arange(tokens.size(1)))
        for block in parts["h"]:
            fused = block["attn"]["c_attn"](block["ln_1"](x))
            x = x + block["attn"]["c_proj"](attend(*fused.split(WIDTH, -1), HEADS))
            wide = self.gelu(block["mlp"]["c_fc"](block["ln_2"](x)))
            x = x + block["mlp"]["c_proj"](wide)
        return self.lm_head(parts["ln_f"](x))


class FromScratchModel(nn.Module):
    """The names of LLMs-from-scratch: separate queries, keys and values, a head of its own."""

    def __init__(self, qkv_bias: bool) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(VOCABULARY, WIDTH)
        self.pos_emb = nn.Embedding(WINDOW, WIDTH)
        self.trf_blocks = nn.Sequential()
        for _ in range(LAYERS):
            block = nn.Module()
            block.att = nn.Module()
            for name in ("W_query", "W_key", "W_value"):
                setattr(block.att, name, nn.Linear(WIDTH, WIDTH, bias=qkv_bias))
            block.att.out_proj = nn.Linear(WIDTH, WIDTH)
            block.att.register_buffer("mask", torch.ones(WINDOW, WINDOW).triu(1))
            block.ff = nn.Module()
            block.ff.layers = nn.Sequential(
                nn.Linear(WIDTH, 4 * WIDTH), nn.Identity(), nn.Linear(4 * WIDTH, WIDTH)
            )
            block.norm1, block.norm2 = _Norm(), _Norm()
            self.trf_blocks.append(block)
        self.final_norm = _Norm()
        self.out_head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tok_emb(tokens) + self.pos_emb(torch.arange(tokens.size(1)))
        for block in self.trf_blocks:
            y, attention = block.norm1(x), block.att
            qkv = attention.W_query(y), attention.W_key(y), attention.W_value(y)
            x = x + attention.out_proj(attend(*qkv, HEADS))
            up, _, down = block.ff.layers
            x = x + down(tanh_gelu(up(block.norm2(x))))
        return self.out_head(self.final_norm(x))


def write_llm_c(path: Path, model: KarpathyModel, version: int, padded: int) -> None:
    """The file that llm.c reads: 256 numbers, then each kind of tensor of all layers in turn."""
    state = {name.removeprefix("transformer."): x for name, x in model.state_dict().items()}
    vocabulary = state["wte.weight"].size(0)
    header = torch.zeros(256, dtype=torch.int32)
    header[:8] = torch.tensor(
        [20240326, version, WINDOW, vocabulary, LAYERS, HEADS, WIDTH, padded], dtype=torch.int32
    )
    rows = F.pad(state["wte.weight"], (0, 0, 0, padded - vocabulary))
    tensors = [rows, state["wpe.weight"]]
    for part in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
        for kind in ("weight", "bias"):
            tensors += [state[f"h.{layer}.{part}.{kind}"] for layer in range(LAYERS)]
    tensors += [state["ln_f.weight"], state["ln_f.bias"]]
    dtype = {3: torch.float32, 5: torch.bfloat16}[version]
    raw = [tensor.to(dtype).contiguous().view(torch.uint8).numpy().tobytes() for tensor in tensors]
    path.write_bytes(header.numpy().tobytes() + b"".join(raw))


def write_keras_preset(folder: Path, model: KarpathyModel) -> None:
    """The files of KerasHub's `save_to_preset`: kernels by heads, (in, H, D) and (H, D, in)."""
    state = {name.removeprefix("transformer."): x for name, x in model.state_dict().items()}
    config = {"vocabulary_size": VOCABULARY, "num_layers": LAYERS, "num_heads": HEADS,
              "hidden_dim": WIDTH, "intermediate_dim": 4 * WIDTH}  # fmt: skip
    folder.mkdir()
    described = {"module": "keras_hub", "class_name": "GPT2Backbone", "config": config}
    (folder / "config.json").write_text(json.dumps(described))
    with h5py.File(folder / "model.weights.h5", "w") as file:

        def put(place: str, *tensors: Tensor) -> None:
            for index, tensor in enumerate(tensors):
                file[f"layers/{place}/vars/{index}"] = tensor.contiguous().numpy()

        def both(name: str) -> tuple[Tensor, Tensor]:
            return state[f"{name}.weight"].t(), state[f"{name}.bias"]

        put("reversible_embedding", state["wte.weight"])
        put("position_embedding", state["wpe.weight"])
        put("layer_normalization", state["ln_f.weight"], state["ln_f.bias"])
        for layer in range(LAYERS):
            place = "transformer_decoder" + (f"_{layer}" if layer else "")
            kernel, bias = both(f"h.{layer}.attn.c_attn")
            parts = zip(("query", "key", "value"), kernel.split(WIDTH, 1), bias.split(WIDTH))
            for name, one, own in parts:
                size = (HEADS, WIDTH // HEADS)
                where = f"{place}/_self_attention_layer/{name}_dense"
                put(where, one.reshape(WIDTH, *size), own.reshape(size))
            kernel, bias = both(f"h.{layer}.attn.c_proj")
            where = f"{place}/_self_attention_layer/output_dense"
            put(where, kernel.reshape(HEADS, WIDTH // HEADS, WIDTH), bias)
            for theirs, ours in (("self_attention", "ln_1"), ("feedforward", "ln_2")):
                norm = [state[f"h.{layer}.{ours}.{kind}"] for kind in ("weight", "bias")]
                put(f"{place}/_{theirs}_layer_norm", *norm)
            put(f"{place}/_feedforward_intermediate_dense", *both(f"h.{layer}.mlp.c_fc"))
            put(f"{place}/_feedforward_output_dense", *both(f"h.{layer}.mlp.c_proj"))
