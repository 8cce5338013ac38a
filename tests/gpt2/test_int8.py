"""Eight-bit weights: close to float32, each row by itself, and only where they are good enough."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gpt2 import inference, int8, int8_gate
from gpt2.decode import MAX_ROWS, rows_at_once
from gpt2.errors import UserError
from gpt2.folder import load_model, save_model
from gpt2.generate import generate_tokens
from gpt2.hub.resolve import STORYTELLER_FOLDER
from gpt2.inference import fastest_format, load_for_inference
from gpt2.int8 import Int8Linear, has_int8, quantize_int8
from gpt2.int8_gate import Verdict, gate_loss, remembered
from gpt2.model import SIZES
from gpt2.prepack import PackedGPT2, PackedLinear
from gpt2.sampling import Sampling

needs_int8 = pytest.mark.skipif(not has_int8(), reason="this machine has no eight-bit products")
pytestmark = needs_int8


def product_by_hand(x, weight, bias):
    """Rounding to whole numbers, and a sum of those, in float64."""
    x, weight = x.double(), weight.double()
    row, column = x.abs().amax(1, keepdim=True) / 127, weight.abs().amax(1, keepdim=True) / 127
    whole = torch.floor(x / row + 0.5).clamp(-127, 127) @ (weight / column).round().T
    return whole * row * column.T + (0 if bias is None else bias.double())


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("gelu", [None, "tanh", "none"])
@pytest.mark.parametrize("biased", [False, True])
def test_a_product_is_the_rounded_one(rows, gelu, biased):
    torch.manual_seed(rows)
    x, weight = torch.randn(rows, 96) * 3, torch.randn(130, 96)
    bias = torch.randn(130) if biased else None
    expected = product_by_hand(x, weight, bias)
    expected = F.gelu(expected, approximate=gelu) if gelu else expected
    found = Int8Linear(weight, bias, gelu)(x).double()
    assert (found - expected).abs().max() < 0.003 * expected.abs().max()
    exact = F.linear(x, weight, bias).double()
    exact = F.gelu(exact, approximate=gelu) if gelu else exact
    assert (found - exact).abs().max() < 0.03 * exact.abs().max()


def test_zeros_and_single_values_are_exact():
    x = torch.zeros(3, 16)
    x[1, 4], x[2, 5] = 7.0, -1e-3
    found = Int8Linear(torch.eye(16))(x)
    torch.testing.assert_close(found, x, rtol=1e-6, atol=0)


def test_a_transposed_weight_is_read_in_its_order():
    """A block's matrices lie transposed in its file."""
    torch.manual_seed(0)
    x, weight = torch.randn(4, 32), torch.randn(32, 48)
    assert torch.equal(Int8Linear(weight.t())(x), Int8Linear(weight.t().contiguous())(x))


@pytest.mark.parametrize("gelu", [None, "tanh", "none"])
def test_every_row_is_what_it_is_alone(gelu):
    """GELU takes another path for a rest of fewer than 32 numbers, so that widths of a multiple of
    32 have the promise; whether a model has it is tried when it is loaded."""
    torch.manual_seed(0)
    product, x = Int8Linear(torch.randn(224, 64), torch.randn(224), gelu), torch.randn(64, 64)
    alone = torch.cat([product(row[None]) for row in x])
    for count in range(1, 65):
        assert torch.equal(product(x[:count]), alone[:count]), count


def test_a_model_of_an_odd_width_is_decoded_row_by_row(make_model):
    odd = quantize_int8(make_model(n_embd=50, n_head=2, vocab_size=101))
    even = quantize_int8(make_model(n_embd=64, n_head=2, vocab_size=101))
    assert rows_at_once(even) == MAX_ROWS
    assert rows_at_once(odd) in (1, MAX_ROWS)


@pytest.fixture(scope="module")
def both():
    """The storyteller in float32 and in eight bits, and its tokenizer."""
    plain, tokenizer = load_model(STORYTELLER_FOLDER, "cpu", "float32")
    return plain, quantize_int8(load_model(STORYTELLER_FOLDER, "cpu", "float32")[0]), tokenizer


def test_the_loss_of_a_trained_model_is_hardly_higher(both):
    plain, small, tokenizer = both
    verdict = Verdict(gate_loss(plain, tokenizer), gate_loss(small, tokenizer))
    assert verdict.is_good
    assert 3 < verdict.float32 < 6
    assert abs(verdict.int8 / verdict.float32 - 1) < 0.005


def test_cached_decoding_is_the_whole_forward(both):
    _, small, tokenizer = both
    ids = torch.tensor([tokenizer.encode("The lamp was lit at dusk, and the keeper sat down.")])
    cache = small.new_cache()
    with torch.inference_mode():
        parts = [small(ids[:, :5], cache), *(small(one, cache) for one in ids[:, 5:].split(1, 1))]
        torch.testing.assert_close(torch.cat(parts, 1), small(ids), rtol=0, atol=0.02)


def test_greedy_texts_begin_alike(both):
    plain, small, tokenizer = both
    how = Sampling(temperature=0, max_new_tokens=12)
    ids = tokenizer.encode("Once upon a time there was a little")
    assert list(generate_tokens(small, ids, how))[:4] == list(generate_tokens(plain, ids, how))[:4]


def test_it_takes_about_half_the_bytes_of_bfloat16(both):
    _, small, _ = both
    assert small.wte.weight.dtype == torch.bfloat16
    assert all(parameter.dim() == 1 for parameter in small.h.parameters())
    assert isinstance(small, PackedGPT2)


# Which format is taken


@pytest.fixture
def large(monkeypatch, tmp_path, base):
    """A folder whose model counts as large here, and a cache of its own."""
    monkeypatch.setattr(inference, "_LARGE", 10)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    return base


def kind_of(model) -> type:
    return type(model.h[0].attn.c_attn)


def test_a_large_model_is_measured_once_and_then_known(large, monkeypatch):
    measured = []
    monkeypatch.setattr(
        inference, "gate_loss", lambda *given: measured.append(1) or gate_loss(*given)
    )
    for _ in range(2):
        model, _ = load_for_inference(str(large), "cpu")
        assert kind_of(model) is Int8Linear
    assert len(measured) == 2, "in both formats, once"
    assert remembered(large).is_good
    (large / "config.json").touch()
    assert remembered(large) is None, "the files are others"


def test_a_model_that_loses_too_much_stays_as_it_was(large, monkeypatch):
    losses = iter([2.0, 2.02])
    monkeypatch.setattr(inference, "gate_loss", lambda *given: next(losses))
    for _ in range(2):
        assert kind_of(load_for_inference(str(large), "cpu")[0]) is PackedLinear
    assert kind_of(load_for_inference(str(large), "cpu", "int8")[0]) is Int8Linear, "if asked"


def test_a_user_without_a_home_measures_again(large, monkeypatch):
    monkeypatch.setattr(int8_gate, "cache_folder", lambda: (_ for _ in ()).throw(UserError("no")))
    assert kind_of(load_for_inference(str(large), "cpu")[0]) is Int8Linear


def test_a_small_model_and_a_processor_without_the_products_do_without(monkeypatch, base):
    assert kind_of(load_for_inference(str(base), "cpu")[0]) is PackedLinear
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert fastest_format(SIZES["124M"], torch.device("cpu")) in ("bfloat16", "float32")


def test_without_the_operators_it_is_said(monkeypatch, base):
    def missing(self, *given):
        raise AttributeError("no such operator")

    has_int8.cache_clear()
    monkeypatch.setattr(int8.Int8Linear, "__init__", missing)
    try:
        with pytest.raises(UserError, match="Choose bfloat16 or float32"):
            load_for_inference(str(base), "cpu", "int8")
    finally:
        has_int8.cache_clear()


def test_only_cpus_have_it(make_model):
    with pytest.raises(UserError, match="is for CPUs"):
        quantize_int8(make_model().to("meta"))


def test_it_cannot_be_saved(both, tmp_path, characters):
    with pytest.raises((TypeError, UserError)):
        save_model(tmp_path / "x", both[1], characters)
