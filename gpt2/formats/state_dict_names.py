"""The names that implementations of GPT-2 in PyTorch give its parts: one table for all of them.

A name is read from the left: wrappers are dropped, a layer's number is taken out, and what is left
is looked up. LLMs-from-scratch's `trf_blocks.3.att.W_query.weight` is `h.3.attn.query.weight` here,
nanoGPT's `_orig_mod.transformer.h.3.mlp.c_fc.bias` is `h.3.mlp.c_fc.bias`.
"""

from __future__ import annotations

import re

# What torch.compile, DistributedDataParallel, Lightning and FSDP put before names, and the modules
# that a GPT-2 is inside of; none of them names a part of it.
_WRAPPERS = {
    "_orig_mod", "module", "model", "_fsdp_wrapped_module", "_checkpoint_wrapped_module",
    "transformer", "gpt", "gpt2", "net", "backbone", "decoder",
}  # fmt: skip
_LAYERS = ("h", "trf_blocks", "blocks", "layers", "transformer_blocks", "block")
# Our name of a part: what it is called elsewhere.
_OUTSIDE = {
    "wte": ("tok_emb", "token_emb", "token_embedding", "token_embedding_table", "embed_tokens"),
    "wpe": ("pos_emb", "position_embedding", "position_embedding_table", "pos_embedding"),
    "ln_f": ("final_norm", "norm_f", "ln_final", "norm", "final_layer_norm"),
    "lm_head": ("out_head", "head", "output", "lm_head"),
}
_ATTENTION = r"(?:attn|att|attention|self_attn|self_attention|mha)\."
_MLP = r"(?:mlp|ff|ffn|ffwd|feed_forward)\."
_INSIDE = {
    "ln_1": r"ln_1|ln1|norm1|norm_1",
    "ln_2": r"ln_2|ln2|norm2|norm_2",
    "attn.c_attn": _ATTENTION + r"(?:c_attn|qkv|qkv_proj|W_qkv|in_proj)",
    "attn.query": _ATTENTION + r"(?:W_query|W_q|q_proj|query|c_q|wq|q)",
    "attn.key": _ATTENTION + r"(?:W_key|W_k|k_proj|key|c_k|wk|k)",
    "attn.value": _ATTENTION + r"(?:W_value|W_v|v_proj|value|c_v|wv|v)",
    "attn.c_proj": _ATTENTION + r"(?:c_proj|out_proj|proj|o_proj|wo|W_o)",
    "mlp.c_fc": _MLP + r"(?:c_fc|fc1|fc_1|fc|linear1|linear_1|layers\.0|net\.0|0)",
    "mlp.c_proj": _MLP + r"(?:c_proj|fc2|fc_2|proj|linear2|linear_2|layers\.2|net\.2|2)",
}
_KINDS = {
    "weight": ("weight", "scale", "gamma", "g", "w", "kernel"),
    "bias": ("bias", "shift", "beta", "b"),
}
# Constants that some carry along: causal masks, and the numbers of the positions.
_CONSTANTS = re.compile(
    rf"(?:{_ATTENTION})?(?:bias|masked_bias|mask|tril|causal_mask|position_ids)"
)
# What only another architecture has, and which one.
_OTHERS = {
    "gate_proj|up_proj|w3|fc3|gate": "an MLP with a gate, as in Llama",
    "rotary_emb|inv_freq|rope|cos|sin": "rotary positions",
    "input_layernorm|post_attention_layernorm|rms_norm|rmsnorm": "RMSNorm, as in Llama",
    "q_norm|k_norm": "norms of queries and keys",
    "relative_attention_bias|alibi|slopes": "positions as biases of attention",
    "experts|router": "a mixture of experts",
    "query_key_value": "attention as in GPT-NeoX",
    "lora_A|lora_B|lora_a|lora_b": "a low-rank adapter, to be merged first",
}
_LAYER = re.compile(rf"(?:{'|'.join(_LAYERS)})\.(\d+)\.(.+)")
_INSIDE_PATTERNS = {part: re.compile(pattern) for part, pattern in _INSIDE.items()}


def our_name(name: str) -> str | None:
    """The tensor of a GPT-2, "h.3.attn.query.weight" and its kin among them, that `name` means;
    "" for a constant that a model does not need, None where it means nothing here."""
    parts = [part for part in name.split(".") if part]
    while parts and parts[0] in _WRAPPERS:
        parts.pop(0)
    parts = [part for part in parts if part not in ("_orig_mod", "_checkpoint_wrapped_module")]
    stem = ".".join(parts)
    if found := _LAYER.fullmatch(stem):
        layer, stem = found.groups()
        if _CONSTANTS.fullmatch(stem):
            return ""
        part = _look_up_inside(stem)
        return part and f"h.{int(layer)}.{part}"
    if _CONSTANTS.fullmatch(stem):
        return ""
    stem, kind = _split_kind(stem)
    for part, others in _OUTSIDE.items():
        if kind and stem in (part, *others):
            return f"{part}.{kind}"
    return None


def other_architecture(name: str) -> str | None:
    """What the name of a tensor says of a model that is no GPT-2."""
    parts = name.split(".")
    for pattern, what in _OTHERS.items():
        if any(re.fullmatch(pattern, part) for part in parts):
            return what
    return None


def _look_up_inside(stem: str) -> str | None:
    stem, kind = _split_kind(stem)
    for part, pattern in _INSIDE_PATTERNS.items():
        if kind and pattern.fullmatch(stem):
            return f"{part}.{kind}"
    return None


def _split_kind(stem: str) -> tuple[str, str | None]:
    """A name without its last word, and whether that is the weight or the bias."""
    stem, _, last = stem.rpartition(".")
    # PyTorch's own multi-head attention writes in_proj_weight.
    if last in ("in_proj_weight", "in_proj_bias"):
        return f"{stem}.in_proj", last.removeprefix("in_proj_")
    return stem, next((kind for kind, others in _KINDS.items() if last in others), None)
