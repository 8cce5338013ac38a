"""Rows that are written together are, bit for bit, what each is alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import torch

from gpt2.batch import BatchRow, read_row, step_rows
from gpt2.decode import chunk_of, decode_rows, read_all, rows_are_independent, rows_at_once
from gpt2.generate import generate_batch
from gpt2.inference import load_for_inference
from gpt2.int8 import quantize_int8
from gpt2.model import GPT2, ModelConfig
from gpt2.prepack import PackedGPT2, PackedLinear, prepack
from gpt2.sampling import Sampling


@pytest.fixture(scope="module")
def storyteller() -> GPT2:
    return load_for_inference("storyteller", "cpu")[0]


@pytest.fixture(scope="module", params=["float32", "bfloat16", "int8"])
def packed(make_model, request) -> GPT2:
    shape = {"n_positions": 48, "n_embd": 64, "n_head": 2, "vocab_size": 211}
    if request.param == "int8":
        return quantize_int8(make_model(seed=3, scale=0.2, **shape))
    return prepack(make_model(seed=3, dtype=getattr(torch, request.param), scale=0.2, **shape))


def some_request(choose: random.Random, model: GPT2, most: int) -> tuple[list[int], Sampling]:
    config = model.config
    length = choose.choice([1, 2, 3, choose.randrange(1, 2 * config.n_positions)])
    how = Sampling(
        max_new_tokens=choose.randrange(1, most),
        temperature=choose.choice([0, 0.8, 0.8, 1.5]),
        top_k=choose.choice([0, 40, 40, 7]),
        top_p=choose.choice([0.95, 1]),
        repetition_penalty=choose.choice([1, 1.1, 1.4]),
        seed=choose.randrange(1000),
    )
    return [choose.randrange(config.vocab_size) for _ in range(length)], how


def alone(model: GPT2, prompt: list[int], how: Sampling) -> list[int]:
    return [token for (token,) in generate_batch(model, prompt, how)]


def together(
    model: GPT2, requests: list[tuple[list[int], Sampling]], choose: random.Random, most: int
) -> list[list[int]]:
    """All requests, at most `most` at a time, which begin, read and pause at random steps."""
    vocabulary, at_once = model.config.vocab_size, rows_at_once(model)
    waiting, rows = list(enumerate(requests)), {}
    texts: list[list[int]] = [[] for _ in requests]
    while waiting or rows:
        while waiting and len(rows) < most and (not rows or choose.random() < 0.7):
            index, (prompt, how) = waiting.pop()
            rows[index] = BatchRow(model, prompt, how)
        for row in rows.values():
            if not row.is_ready and choose.random() < 0.7:
                read_row(model, row)
        ready = [i for i, row in rows.items() if row.is_ready and choose.random() < 0.95]
        if ready:
            tokens = step_rows(model, [rows[i] for i in ready], at_once, vocabulary)
            for index, token in zip(ready, tokens):
                texts[index].append(token)
                if len(texts[index]) == requests[index][1].max_new_tokens:
                    del rows[index]
    return texts


@pytest.mark.parametrize("most", [1, 2, 3, 7, 32])
def test_rows_that_come_and_go_are_what_they_are_alone(most, packed):
    """Windows slide, settings differ, prompts have any length."""
    choose = random.Random(most)
    requests = [some_request(choose, packed, 75) for _ in range(min(2 * most, 36))]
    expected = [alone(packed, *request) for request in requests]
    assert together(packed, requests, choose, most) == expected


def test_rows_of_the_bundled_model_are_what_they_are_alone(storyteller):
    choose = random.Random(7)
    requests = [some_request(choose, storyteller, 40) for _ in range(12)]
    expected = [alone(storyteller, *request) for request in requests]
    assert together(storyteller, requests, choose, 9) == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "plain fp32"])
def test_rows_of_a_plain_model_are_what_they_are_alone(dtype, make_model):
    """As on a GPU: they are computed one after the other."""
    model = make_model(seed=4, dtype=dtype)
    assert rows_at_once(model) == 1
    choose = random.Random(1)
    requests = [some_request(choose, model, 90) for _ in range(6)]
    expected = [alone(model, *request) for request in requests]
    assert together(model, requests, choose, 4) == expected


def test_logits_are_the_same_bits_for_every_number_of_rows(packed, storyteller):
    for model in (packed, storyteller):
        room, vocabulary = model.config.n_positions - 1, model.config.vocab_size
        choose = random.Random(2)
        prompts = [
            [choose.randrange(vocabulary) for _ in range(choose.randrange(1, room))]
            for _ in range(32)
        ]
        caches = [model.new_cache() for _ in prompts]
        for prompt, cache in zip(prompts, caches):
            read_all(model, prompt, cache)
        single = [decode_rows(model, [5], [cache]) for cache in caches]
        for count in range(1, 33):
            begin = choose.randrange(33 - count)
            some = caches[begin : begin + count]
            for cache in some:
                cache.length -= 1
            logits = decode_rows(model, [5] * count, some)
            assert torch.equal(logits, torch.cat(single[begin : begin + count])), count


def test_one_step_over_the_flat_arguments_is_the_modules_forward(packed):
    """The step calls operators, not modules: an oracle of another form."""
    model, prompt = packed, [3, 1, 4, 1, 5, 9]
    flat, whole = model.new_cache(), model.new_cache()
    read_all(model, prompt, flat)
    read_all(model, prompt, whole)
    with torch.inference_mode():
        for token in (2, 6, 5):
            logits = model(torch.tensor([[token]]), whole)[:, -1]
            assert torch.equal(decode_rows(model, [token], [flat]), logits)
    assert torch.equal(flat.slab[..., : flat.length, :], whole.slab[..., : flat.length, :])


def test_samples_fork_after_their_prompt_and_are_the_single_runs(packed):
    how = Sampling(max_new_tokens=70, seed=5, samples=3)
    first = BatchRow(packed, [7, 8, 9], how)
    read_row(packed, first)
    rows = [first, first.fork(1), first.fork(2)]
    texts: list[list[int]] = [[], [], []]
    while len(texts[0]) < 70:
        for row in rows:
            if not row.is_ready:
                read_row(packed, row)
        if all(row.is_ready for row in rows):
            for text, token in zip(texts, step_rows(packed, rows, 32, 211)):
                text.append(token)
    assert list(zip(*texts)) == [tuple(row) for row in generate_batch(packed, [7, 8, 9], how)]
    single = replace(how, samples=1)
    assert texts == [alone(packed, [7, 8, 9], replace(single, seed=5 + i)) for i in range(3)]


def test_chunks_end_where_the_text_says(make_model):
    """Never where the load says: the bits of a chunk's keys depend on where it begins and ends."""
    model = make_model(n_positions=300)
    fed: list[int] = []
    model.wte.register_forward_hook(lambda _, inputs, out: fed.append(inputs[0].numel()))
    assert chunk_of(model) == 128
    read_all(model, [1] * 300, model.new_cache())
    assert fed == [128, 128, 44]


def test_a_large_model_reads_less_at_once(make_model):
    sizes = {}
    for millions in (8, 124, 355, 774, 1558):
        model = make_model()
        model.parameter_count = lambda millions=millions: millions * 1_000_000
        sizes[millions] = chunk_of(model)
    assert sizes == {8: 128, 124: 128, 355: 32, 774: 16, 1558: 16}


def _dependent(real: Callable) -> Callable:
    def forward(self, x):
        return real(self, x) + (1e-7 if x.reshape(-1, self.n_in).size(0) > 16 else 0)

    return forward


def test_where_rows_depend_on_each_other_they_are_decoded_one_by_one(packed, monkeypatch):
    """A processor whose kernel for many rows sums in another order."""
    if not isinstance(packed, PackedGPT2):
        pytest.skip("this machine has no prepacked products")
    assert rows_are_independent(packed)
    assert rows_at_once(packed) == 32
    monkeypatch.setattr(PackedLinear, "forward", _dependent(PackedLinear.forward))
    if packed.wte.weight.dtype == torch.float32:
        assert rows_at_once(packed) == 1


def test_rows_of_a_close_relative_follow_its_own_attention_and_mlp(make_model):
    """A decoding step has attention and products of its own beside those of the model's modules."""
    shape = ModelConfig(
        vocab_size=97, n_positions=48, n_embd=32, n_layer=3, n_head=2, n_inner=50,
        layer_norm_epsilon=1e-3, exact_gelu=True, scale_attn_by_inverse_layer_idx=True,
    )  # fmt: skip
    plain = make_model(seed=3, **asdict(shape))
    tokens = [7 * index % 97 for index in range(20)]
    with torch.inference_mode():
        expected = plain(torch.tensor([tokens]))[0, -1]
        model = prepack(plain)
        cache = model.new_cache()
        read_all(model, tokens[:-1], cache)
        (actual,) = decode_rows(model, tokens[-1:], [cache])
    assert (actual - expected).abs().max() < 1e-4
