"""The next token of many texts at once, each bit for bit as if it were alone.

Reading the weights is what a decoding step pays for, and rows of a product share it: eight texts
cost little more than one. What makes a row's bits independent of its neighbours:

- Packed products (`gpt2.prepack`) of 4 to 32 rows compute every row alike, whichever others there
  are and on however many threads; of fewer rows some use another kernel, so that they are repeated.
- Layer norm, the sums of the stream and the embeddings are computed within a row.
- Attention over several rows at once is not independent on every processor, so each row attends by
  itself, over a cache of its own.
- Prompts are read by a text alone, in chunks that end at multiples of `chunk_of(model)`.

The kernels are chosen by the processor, so this is tried on the model itself before it is relied
upon: where `rows_are_independent` says no, and for models that are not packed (on a GPU, or in
float16), the rows are computed one after the other, by the operations that serve one alone. So the
promise holds everywhere, and what depends on the machine is the price.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gpt2.model import GPT2, KVCache
from gpt2.prepack import PackedGPT2, RowProduct, norm_arguments

MAX_ROWS = 32  # bfloat16 on AMX takes another kernel from 33 rows on
_CHUNKS = (16, 128)  # the smallest and the largest, in tokens
_TRIED_ALONE = [0, 3, 15, MAX_ROWS - 1]
_TRIED_COUNTS = (4, 5, 7, 8, 12, 16, 17, 24, 31)


def chunk_of(model: GPT2) -> int:
    """How many tokens of a prompt are read at once: as many as a small machine reads in well under
    100 ms (two cores: 124M 75 ms), so that others need not wait longer. All of them on a GPU."""
    if model.device.type != "cpu":
        return model.config.n_positions
    low, high = _CHUNKS
    affordable = 16_000_000_000 // model.parameter_count()
    return min(high, max(low, 1 << (affordable.bit_length() - 1)))


@torch.inference_mode()
def read_chunk(model: GPT2, tokens: Sequence[int], cache: KVCache) -> Tensor | None:
    """Append the next chunk of `tokens`, all that the cache is to hold, to what it holds of them;
    after the last chunk, the logits (V,) of the token after them."""
    chunk, begin = chunk_of(model), cache.length
    end = min(len(tokens), (begin // chunk + 1) * chunk)
    if end - begin == 1:
        logits = decode_rows(model, tokens[begin:end], [cache])[0]
        return logits if end == len(tokens) else None
    fresh = torch.tensor(tokens[begin:end], device=model.device)
    hidden = model.hidden(fresh[None], cache)
    return model.head(hidden[:, -1])[0] if end == len(tokens) else None


def read_all(model: GPT2, tokens: Sequence[int], cache: KVCache) -> Tensor:
    """As `read_chunk`, until the last."""
    while (logits := read_chunk(model, tokens, cache)) is None:
        pass
    return logits


@torch.inference_mode()
def decode_rows(model: GPT2, tokens: Sequence[int], caches: Sequence[KVCache]) -> Tensor:
    """Logits (R, V) of the tokens that follow `tokens`, one for each cache, which is appended to
    its cache. R is at most `rows_at_once(model)`."""
    if isinstance(model, PackedGPT2):
        return _decode_packed(model, tokens, caches)
    fresh = torch.tensor(tokens, device=model.device)[:, None, None]
    return torch.cat([model(token, cache)[:, -1] for token, cache in zip(fresh, caches)])


def _decode_packed(model: PackedGPT2, tokens: Sequence[int], caches: Sequence[KVCache]) -> Tensor:
    count, config = len(tokens), model.config
    rows = max(count, model.fewest_rows)  # the last one is repeated, for the kernel's sake
    again = rows - count
    last_ids = torch.tensor([*tokens, *tokens[-1:] * again])
    positions = [cache.length for cache in caches]
    x = F.embedding(last_ids, model.wte.weight) + F.embedding(
        torch.tensor([*positions, *positions[-1:] * again]), model.wpe.weight
    )  # (rows, C)
    ends, seen = zip(*(_views(cache) for cache in caches))
    dtype, shape = caches[0].slab.dtype, (rows, 3, config.n_head, config.n_embd // config.n_head)
    for index, layer in enumerate(model.flat):
        heads = layer.qkv(torch.layer_norm(x, *layer.norm_1)).view(shape).to(dtype)
        torch._foreach_copy_([own[index] for own in ends], heads[:count, 1:].unbind())
        queries = heads[:count, :1, :, None].unbind()  # each (1, H, 1, D)
        mixed = [
            F.scaled_dot_product_attention(
                query, own[2 * index], own[2 * index + 1], scale=layer.scale
            )
            for query, own in zip(queries, seen)
        ]
        mixed = torch.cat([*mixed, *mixed[-1:] * again]).view(rows, -1).to(x.dtype)
        x = x + layer.projection(mixed)
        x = x + layer.down(layer.up(torch.layer_norm(x, *layer.norm_2)))
    for cache in caches:
        cache.length += 1
    final = torch.layer_norm(x, *norm_arguments(model.ln_f))
    return model.packed_head.rows(final)[:count]


def _views(cache: KVCache) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Of a row's cache: where each layer's next key and value go, (2, H, D), and then all keys and
    all values of each layer up to them, (1, H, S, D)."""
    layers, _, _, heads, capacity, size = cache.slab.shape
    ends = cache.slab.view(layers, 2, heads, capacity, size).select(3, cache.length).unbind()
    whole = cache.slab.view(2 * layers, 1, heads, capacity, size)
    return ends, whole.narrow(3, 0, cache.length + 1).unbind()


def rows_at_once(model: GPT2) -> int:
    """How many rows may be decoded together on this machine: 1 where they would not be alone what
    they are together. To find out takes about as long as ten tokens."""
    return MAX_ROWS if isinstance(model, PackedGPT2) and rows_are_independent(model) else 1


@torch.inference_mode()
def rows_are_independent(model: PackedGPT2) -> bool:
    """Whether the products of this model compute each row alike, however many there are.

    One block and the head stand for all: kernels are chosen by shapes, not by values. Not every
    number of rows is tried, but those between which kernels change; the tests try them all."""
    products = [one for one in model.h[0].modules() if isinstance(one, RowProduct)]
    return all(_is_independent(product) for product in (*products, model.packed_head))


def _is_independent(product: RowProduct) -> bool:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(MAX_ROWS, product.n_in, generator=generator).to(product.dtype)
    together = product(x)
    alone = torch.cat([product(x[row : row + 1]) for row in _TRIED_ALONE])
    return torch.equal(alone, together[_TRIED_ALONE]) and all(
        torch.equal(product(x[:count]), together[:count]) for count in _TRIED_COUNTS
    )
