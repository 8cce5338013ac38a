"""GPT-2, to be read once from top to bottom.

The architecture is that of Radford et al., "Language Models are Unsupervised Multitask Learners"
(2019), as OpenAI released it: https://github.com/openai/gpt-2/blob/master/src/model.py

Modules and parameters have the released names and shapes, so a state dict of `GPT2` *is* the
content of a Hugging Face GPT-2 file: nothing is renamed or transposed between the two.

Shapes:  B batch · T tokens of this call · P tokens in the cache before it · S = P + T
         C n_embd · H n_head · D = C / H · V vocab_size
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a GPT-2. Impossible shapes raise `ValueError`."""

    vocab_size: int = 50257
    n_positions: int = 1024  # the context window, in tokens
    n_embd: int = 768  # the width of the residual stream
    n_layer: int = 12
    n_head: int = 12
    dropout: float = 0.0  # in training only: on embeddings, attention weights and residuals
    tie_word_embeddings: bool = True  # the output head is the token embedding
    qkv_bias: bool = True
    # Numbers in which close relatives of GPT-2 differ from it.
    n_inner: int | None = None  # the width inside an MLP; None is 4 n_embd
    layer_norm_epsilon: float = 1e-5
    exact_gelu: bool = False  # by the error function; OpenAI's is the formula with tanh
    scale_attn_by_inverse_layer_idx: bool = False  # layer 0 by 1, layer 1 by 1/2, ...

    def __post_init__(self) -> None:
        for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.n_inner is not None and (type(self.n_inner) is not int or self.n_inner < 1):
            raise ValueError(f"n_inner must be a whole number of at least 1, not {self.n_inner!r}")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} cannot be split among {self.n_head} heads")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout!r}")
        if type(self.layer_norm_epsilon) is not float or not 0.0 < self.layer_norm_epsilon < 1.0:
            raise ValueError(
                f"layer_norm_epsilon must be a number in (0, 1), not {self.layer_norm_epsilon!r}"
            )

    @property
    def mlp_width(self) -> int:
        return self.n_inner or 4 * self.n_embd


SIZES = {
    "124M": ModelConfig(n_layer=12, n_head=12, n_embd=768),
    "355M": ModelConfig(n_layer=24, n_head=16, n_embd=1024),
    "774M": ModelConfig(n_layer=36, n_head=20, n_embd=1280),
    "1558M": ModelConfig(n_layer=48, n_head=25, n_embd=1600),
}


class KVCache:
    """The keys and values of the tokens seen so far, for all layers.

    It is allocated once, for `capacity` tokens; `length` says how many are filled. The caller owns
    it and passes it to `GPT2.forward`, which appends the tokens of that call.
    """

    def __init__(self, config: ModelConfig, batch: int, capacity: int, like: Tensor) -> None:
        head_size = config.n_embd // config.n_head
        shape = (config.n_layer, 2, batch, config.n_head, capacity, head_size)
        self._take(like.new_empty(shape), 0)

    def _take(self, slab: Tensor, length: int) -> None:
        self.slab = slab  # (layers, 2, B, H, capacity, D), of which the lists are views
        layers = range(slab.size(0))
        self.keys = [slab[layer, 0] for layer in layers]  # each (B, H, capacity, D)
        self.values = [slab[layer, 1] for layer in layers]
        self.batch, self.capacity = slab.size(2), slab.size(4)
        self.length = length
        self._rows: list[KVCache] = []

    def repeat(self, batch: int) -> KVCache:
        """A cache for `batch` sequences that all begin like the one in this cache."""
        cache = copy.copy(self)
        cache._take(self.slab.repeat(1, 1, batch, 1, 1, 1), self.length)
        return cache

    def rows(self) -> list[KVCache]:
        """A cache for each sequence, as long as this one and in its memory. What is appended to
        them counts here once this one's length says so."""
        if not self._rows:
            self._rows = [copy.copy(self) for _ in range(self.batch)]
            for index, row in enumerate(self._rows):
                row._take(self.slab.narrow(2, index, 1), 0)
        for row in self._rows:
            row.length = self.length
        return self._rows

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store (B, H, T, D) after the filled part; return all keys and values, (B, H, S, D)."""
        keys, values, T = self.keys[layer], self.values[layer], key.size(2)
        keys.narrow(2, self.length, T).copy_(key)
        values.narrow(2, self.length, T).copy_(value)
        return keys.narrow(2, 0, self.length + T), values.narrow(2, 0, self.length + T)


class Linear(nn.Module):
    """x @ weight + bias, the weight stored (in, out) as OpenAI stored it ("Conv1D")."""

    def __init__(self, n_in: int, n_out: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)


class Attention(nn.Module):
    """Causal self-attention over all heads at once."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=config.qkv_bias)
        self.c_proj = Linear(config.n_embd, config.n_embd)
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.layer = layer
        # None is PyTorch's own default, 1 / sqrt(D).
        by_layer = config.scale_attn_by_inverse_layer_idx
        head_size = config.n_embd // config.n_head
        self.scale = 1 / (math.sqrt(head_size) * (layer + 1)) if by_layer else None

    def forward(self, x: Tensor, cache: KVCache | None) -> Tensor:
        B, T, C = x.shape
        heads = self.c_attn(x).view(B, T, 3, self.n_head, C // self.n_head)  # (B, T, 3, H, D)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        if cache is not None:
            key, value = cache.append(self.layer, key, value)  # (B, H, S, D)
        out = F.scaled_dot_product_attention(
            query.to(key.dtype),  # a cache may have a different type than the model
            key,
            value,
            attn_mask=self._mask(T, key.size(2), x.device),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=key.size(2) == T and T > 1,
            scale=self.scale,
        )  # (B, H, T, D)
        out = out.transpose(1, 2).reshape(B, T, C).to(heads.dtype)
        return F.dropout(self.c_proj(out), self.dropout, self.training)

    @staticmethod
    def _mask(T: int, S: int, device: torch.device) -> Tensor | None:
        # `is_causal` aligns its triangle to the upper left, right only for an empty cache; one
        # token after a cache sees everything; a chunk after a cache needs the lower-right triangle.
        if T in (1, S):
            return None
        return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.c_fc = Linear(config.n_embd, config.mlp_width)
        self.c_proj = Linear(config.mlp_width, config.n_embd)
        self.gelu = "none" if config.exact_gelu else "tanh"  # PyTorch's name of the approximation
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.c_fc(x), approximate=self.gelu)  # (B, T, mlp_width)
        return F.dropout(self.c_proj(x), self.dropout, self.training)


class Block(nn.Module):
    """One layer: each half reads the normalized stream and adds to it."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache: KVCache | None) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    """Token ids to the logits of the next token. One forward for training, prefill and decode."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """OpenAI's initialization: 0.02, the 2 n_layer projections into the stream scaled down."""
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.n_layer))
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits of the token after each of `tokens`: (B, T) ids -> (B, T, V).

        With a cache, `tokens` continue what is in it and are appended to it. `ValueError` if they
        do not fit into the context window or the cache.
        """
        return self.head(self.hidden(tokens, cache))

    def hidden(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """The final normalized stream, (B, T) -> (B, T, C): `forward` without the head."""
        T, past = tokens.size(1), 0 if cache is None else cache.length
        room = self.config.n_positions if cache is None else cache.capacity
        if past + T > min(room, self.config.n_positions):
            raise ValueError(f"{past} + {T} tokens do not fit into {room} positions")
        positions = torch.arange(past, past + T, device=tokens.device)
        x = self.wte(tokens) + self.wpe(positions)  # (B, T, C)
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.h:
            x = block(x, cache)
        if cache is not None:
            cache.length += T
        return self.ln_f(x)

    def head(self, hidden: Tensor) -> Tensor:
        """(..., C) -> logits (..., V)."""
        return F.linear(hidden, self.head_weight)

    @property
    def head_weight(self) -> Tensor:
        """(V, C): the token embedding, or the matrix of an untied head."""
        return (self.wte if self.config.tie_word_embeddings else self.lm_head).weight

    def new_cache(self, batch: int = 1, capacity: int | None = None) -> KVCache:
        """An empty cache for `batch` sequences of up to `capacity` (the whole window) tokens."""
        return KVCache(self.config, batch, capacity or self.config.n_positions, self.wpe.weight)

    @property
    def device(self) -> torch.device:
        return self.wpe.weight.device

    def parameter_count(self) -> int:
        """All parameters, a tied head counted once."""
        return sum(parameter.numel() for parameter in self.parameters())
