"""GGUF of the architecture "gpt2": its tensors, keys and number formats, for both directions."""

from __future__ import annotations

from gpt2.errors import UserError
from gpt2.model import ModelConfig

ARCHITECTURE = "gpt2"
# Our field: the key below "gpt2.".
GGUF_FIELDS = {
    "n_positions": "context_length",
    "n_embd": "embedding_length",
    "n_layer": "block_count",
    "n_head": "attention.head_count",
}
INNER, EPSILON = "feed_forward_length", "attention.layer_norm_epsilon"
EXACT_GELU = "exact_gelu"  # ours: llama.cpp has one GELU and passes over the key
_OUTSIDE = {
    "wte.weight": "token_embd.weight",
    "wpe.weight": "position_embd.weight",
    "ln_f.weight": "output_norm.weight",
    "ln_f.bias": "output_norm.bias",
    "lm_head.weight": "output.weight",
}
_INSIDE = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def gguf_names(config: ModelConfig) -> dict[str, str]:
    """The names of a folder's tensors, each with the one that llama.cpp gives it."""
    names = dict(_OUTSIDE)
    if config.tie_word_embeddings:
        del names["lm_head.weight"]
    for layer in range(config.n_layer):
        for ours, theirs in _INSIDE.items():
            for kind in ("weight", "bias"):
                names[f"h.{layer}.{ours}.{kind}"] = f"blk.{layer}.{theirs}.{kind}"
    return names


def is_gguf_matrix(ours: str) -> bool:
    """Whether a tensor is stored there with its two dimensions changed over."""
    return ours.endswith(".weight") and (".attn." in ours or ".mlp." in ours)


def import_gguf():
    """The library, or a clear message that it has to be installed."""
    try:
        import gguf
    except ImportError:
        raise UserError(
            "GGUF files take the library gguf, which is not installed (nothing else needs it): "
            "pip install gguf, then try again."
        ) from None
    return gguf
