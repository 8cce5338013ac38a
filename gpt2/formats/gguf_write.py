"""A model folder as a GGUF file that llama.cpp runs, with any byte-pair vocabulary.

llama.cpp's converter knows OpenAI's vocabulary only, by its fingerprint; here the tokens, their
types and the merges are written as they are. What it cannot compute as we do is refused, or, where
the difference is as small as its own rounding, said.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt2.byte_pairs import END_OF_TEXT, byte_characters
from gpt2.errors import UserError
from gpt2.formats.gguf_names import (
    ARCHITECTURE,
    EXACT_GELU,
    gguf_names,
    import_gguf,
    is_gguf_matrix,
)
from gpt2.formats.state_dict import state_shapes
from gpt2.model import GPT2, ModelConfig
from gpt2.tokenizer import BytePairTokenizer, Tokenizer

GGUF_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}
_Q8_ROW = 32  # values that share a scale: a row is a multiple of them, or stays float16


def write_gguf(path: Path, model: GPT2, tokenizer: Tokenizer, dtype: str, name: str) -> list[str]:
    """Write the file; what a person should know about it. `dtype` is a key of `GGUF_TYPES`, that
    of the matrices: vectors and positions are float32 for llama.cpp. `UserError` for a tokenizer
    that it has no form for."""
    gguf = import_gguf()
    tokenizer = _require_byte_pairs(tokenizer)
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    most = "ALL_F32" if dtype == "float32" else f"MOSTLY_{GGUF_TYPES[dtype]}"
    _describe(writer, model.config, name, gguf.LlamaFileType[most])
    _add_tokens(writer, tokenizer, model.config.vocab_size)
    state, names = model.state_dict(), gguf_names(model.config)
    kinds = {}
    for ours, shape in _stored_shapes(model.config).items():
        kinds[ours] = kind = gguf.GGMLQuantizationType[_type_of(ours, shape, dtype)]
        in_bytes = gguf.quants.quant_shape_to_byte_shape(shape, kind)
        size = math.prod(in_bytes)
        writer.add_tensor_info(names[ours], in_bytes, np.dtype(np.uint8), size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for ours, kind in kinds.items():  # one in memory at a time, beside the model
        values = _values(ours, state.get(ours), model.config)
        writer.write_tensor_data(gguf.quants.quantize(values, kind))
    writer.close()
    if model.config.exact_gelu:
        return [
            "This model's GELU is exact; llama.cpp has the formula with tanh only, which differs "
            "from it by 0.0005 at most."
        ]
    return []


def _describe(writer, config: ModelConfig, name: str, file_type: int) -> None:
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.mlp_width)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_vocab_size(config.vocab_size)
    if config.exact_gelu:
        writer.add_bool(f"{ARCHITECTURE}.{EXACT_GELU}", True)


def _values(ours: str, tensor: Tensor | None, config: ModelConfig) -> np.ndarray:
    """A tensor as GGML stores it: float32, matrices (out, in), queries scaled by layer."""
    if tensor is None:  # the bias of a model without QKV biases
        tensor = torch.zeros(3 * config.n_embd)
    tensor = tensor.float()
    if config.scale_attn_by_inverse_layer_idx and ".c_attn." in ours:
        tensor = tensor.clone()
        tensor[..., : config.n_embd] /= int(ours.split(".")[1]) + 1  # the queries
    return (tensor.t() if is_gguf_matrix(ours) else tensor).contiguous().numpy()


def _stored_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    shapes = state_shapes(replace(config, qkv_bias=True))
    return {
        ours: shapes[ours][::-1] if is_gguf_matrix(ours) else shapes[ours]
        for ours in gguf_names(config)
    }


def _type_of(ours: str, shape: tuple[int, ...], dtype: str) -> str:
    if len(shape) == 1 or ours == "wpe.weight":
        return "F32"
    if dtype == "q8_0" and shape[-1] % _Q8_ROW:
        return "F16"
    return GGUF_TYPES[dtype]


def _add_tokens(writer, tokenizer: BytePairTokenizer, vocab_size: int) -> None:
    token_type = import_gguf().TokenType
    added = {token.id: token.content for token in tokenizer.settings.added}
    named = {index: token for token, index in tokenizer.vocabulary.items()} | added
    made = _made_by_merges(tokenizer)
    ends = (tokenizer.end_of_text, tokenizer.vocabulary.get(END_OF_TEXT))
    tokens, types = [], []
    for index in range(vocab_size):
        tokens.append(named.get(index, f"[PAD{index}]"))
        if index not in named:
            types.append(token_type.UNUSED)
        elif index in added and index not in ends:
            types.append(token_type.USER_DEFINED)  # it is that one id wherever it stands, as here
        else:
            types.append(token_type.NORMAL if index in made else token_type.CONTROL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([f"{left} {right}" for left, right in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.end_of_text)
    writer.add_eos_token_id(tokenizer.end_of_text)
    writer.add_add_bos_token(False)


def _made_by_merges(tokenizer: BytePairTokenizer) -> set[int]:
    tokens = [*byte_characters(), *(left + right for left, right in tokenizer.merges)]
    return {tokenizer.vocabulary[token] for token in tokens}


def _require_byte_pairs(tokenizer: Tokenizer) -> BytePairTokenizer:
    if not isinstance(tokenizer, BytePairTokenizer):
        raise UserError("GGUF has byte pairs only, and the tokens of this model are characters.")
    settings = tokenizer.settings
    odd = [one for one in settings.added if one.lstrip or one.rstrip or one.single_word]
    if settings.normalizer or settings.add_prefix_space or odd or tokenizer.end_of_text is None:
        raise UserError(
            "llama.cpp has no form for this model's tokenizer: it normalizes texts, puts a space "
            "before them, strips around added tokens, or has no token that ends a text."
        )
    return tokenizer
