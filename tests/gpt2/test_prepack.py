"""The prepacked model computes what the plain one does, and keeps no second copy of it."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import Tensor, nn

from gpt2 import inference
from gpt2 import prepack as module
from gpt2.folder import save_model
from gpt2.generate import generate_tokens
from gpt2.model import GPT2, ModelConfig
from gpt2.prepack import PackedGPT2, prepack
from gpt2.sampling import Sampling

TIED = ModelConfig(vocab_size=211, n_positions=48, n_embd=64, n_layer=3, n_head=4, dropout=0.1)
UNTIED = ModelConfig(
    vocab_size=97, n_positions=48, n_embd=48, n_layer=2, n_head=3, tie_word_embeddings=False
)
WITHOUT_BIAS = ModelConfig(
    vocab_size=83, n_positions=48, n_embd=32, n_layer=2, n_head=2, qkv_bias=False
)
RELATIVE = ModelConfig(
    vocab_size=211, n_positions=48, n_embd=64, n_layer=3, n_head=4, n_inner=300,
    layer_norm_epsilon=1e-3, exact_gelu=True, scale_attn_by_inverse_layer_idx=True,
)  # fmt: skip
CONFIGS = pytest.mark.parametrize(
    "config", [TIED, UNTIED, WITHOUT_BIAS, RELATIVE],
    ids=["tied", "untied", "no qkv bias", "relative"],
)  # fmt: skip
# Of the largest logit. Both roundings of a bf16 model stray from float32 by about as much.
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 0.02}
DTYPES = pytest.mark.parametrize("dtype", BOUNDS, ids=["fp32", "bf16"])

needs_packing = pytest.mark.skipif(
    not (module._works(torch.float32) and module._works(torch.bfloat16)),
    reason="this machine has no prepacked products",
)


def make_model(config: ModelConfig, dtype: torch.dtype = torch.float32) -> GPT2:
    """Weights large enough that tokens differ, biases and scales that are not zero and one."""
    torch.manual_seed(0)
    model = GPT2(config)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.copy_(3 * parameter if parameter.dim() == 2 else parameter + 0.1)
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def both(config: ModelConfig, dtype: torch.dtype = torch.float32) -> tuple[GPT2, GPT2]:
    plain = make_model(config, dtype)
    packed = prepack(copy.deepcopy(plain))
    assert isinstance(packed, PackedGPT2)
    return plain, packed


def some_tokens(config: ModelConfig, batch: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(config.vocab_size, (batch, length), generator=generator)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    difference = (actual.float() - expected.float()).abs().max()
    assert difference <= BOUNDS[expected.dtype] * expected.float().abs().max()


@needs_packing
@DTYPES
@CONFIGS
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 1), (1, 3), (1, 48), (3, 20)])
def test_logits_are_those_of_the_plain_model(
    config: ModelConfig, dtype: torch.dtype, batch: int, length: int
) -> None:
    plain, packed = both(config, dtype)
    tokens = some_tokens(config, batch, length)
    with torch.inference_mode():
        assert_close(packed(tokens), plain(tokens))
        assert_close(packed.head(packed.hidden(tokens)[:, -1]), plain(tokens)[:, -1])


@needs_packing
def test_float32_logits_agree_to_a_ten_thousandth() -> None:
    plain, packed = both(TIED)
    tokens = some_tokens(TIED, 2, 48)
    with torch.inference_mode():
        torch.testing.assert_close(packed(tokens), plain(tokens), rtol=0, atol=1e-4)


@needs_packing
@pytest.mark.parametrize("config", [TIED, UNTIED], ids=["tied", "untied"])
def test_bf16_is_as_close_to_float32_as_the_plain_bf16_model(config: ModelConfig) -> None:
    tokens = some_tokens(config, 2, 48)
    plain, packed = both(config, torch.bfloat16)
    with torch.inference_mode():
        exact = copy.deepcopy(plain).float()(tokens)
        of_plain, of_packed = ((model(tokens) - exact).square().mean() for model in (plain, packed))
    assert of_packed <= 1.2 * of_plain


@needs_packing
@DTYPES
@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_cached_decode_is_the_whole_forward(dtype: torch.dtype, batch: int) -> None:
    plain, packed = both(TIED, dtype)
    tokens = some_tokens(TIED, batch, 30)
    cache = packed.new_cache(batch, 30)
    parts = [tokens[:, :17], tokens[:, 17:21], *tokens[:, 21:].split(1, dim=1)]
    with torch.inference_mode():
        cached = torch.cat([packed(part, cache) for part in parts], dim=1)
        assert_close(cached, plain(tokens))
    assert cache.length == 30


@needs_packing
@CONFIGS
def test_greedy_tokens_are_the_same_past_the_window_too(config: ModelConfig) -> None:
    plain, packed = both(config)
    greedy = Sampling(temperature=0, repetition_penalty=1.3, max_new_tokens=80)
    tokens = list(generate_tokens(plain, [1, 2, 3], greedy))
    assert len(set(tokens)) > 10
    assert list(generate_tokens(packed, [1, 2, 3], greedy)) == tokens


@needs_packing
@DTYPES
@CONFIGS
def test_plain_matrices_are_released_even_if_the_given_model_lives(
    config: ModelConfig, dtype: torch.dtype
) -> None:
    model = make_model(config, dtype)
    kept = ("wte", "wpe", "ln_", "bias")  # rows to look up, and vectors
    matrices = {
        name: weakref.ref(parameter)
        for name, parameter in model.named_parameters()
        if not any(part in name for part in kept)
    }
    assert len(matrices) == 4 * config.n_layer + (not config.tie_word_embeddings)
    packed = prepack(model)
    assert [name for name, reference in matrices.items() if reference() is not None] == []
    assert all(parameter.dim() == 1 for parameter in packed.h.parameters())


@needs_packing
def test_has_the_interface_of_the_plain_model() -> None:
    plain, packed = both(TIED)
    assert packed.config == TIED
    assert packed.device == torch.device("cpu")
    assert packed.parameter_count() == plain.parameter_count()
    assert not packed.training
    assert packed.new_cache().capacity == TIED.n_positions
    with pytest.raises(ValueError, match="positions"):
        packed(some_tokens(TIED, 1, 49))


@needs_packing
def test_can_be_neither_trained_nor_saved() -> None:
    _, packed = both(TIED)
    assert not packed(some_tokens(TIED, 1, 4)).requires_grad
    with pytest.raises(TypeError, match="no state dict"):
        packed.state_dict()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=["fp16", "fp64"])
def test_other_number_formats_stay_plain(dtype: torch.dtype) -> None:
    model = make_model(TIED, dtype)
    assert prepack(model) is model
    assert type(model) is GPT2


def test_other_devices_stay_plain() -> None:
    model = make_model(TIED).to("meta")
    assert prepack(model) is model


@pytest.fixture
def _fresh_trial():
    module._works.cache_clear()
    yield
    module._works.cache_clear()


def _raise(error: Exception):
    def init(self: nn.Module, *args: object, **kwargs: object) -> None:
        raise error

    return init


@pytest.mark.usefixtures("_fresh_trial")
@pytest.mark.parametrize(
    "error", [AttributeError("no operator"), NotImplementedError("for CPU"), RuntimeError("no AVX")]
)
def test_without_the_operators_the_model_stays_plain(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.PackedLinear, "__init__", _raise(error))
    model = make_model(TIED)
    assert prepack(model) is model


@pytest.mark.usefixtures("_fresh_trial")
def test_where_the_operators_are_wrong_the_model_stays_plain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = lambda self, x: x.new_zeros(*x.shape[:-1], self.n_out)  # noqa: E731
    monkeypatch.setattr(module.PackedLinear, "forward", wrong)
    model = make_model(TIED)
    assert prepack(model) is model
    assert all(type(block.attn.c_attn).__name__ == "Linear" for block in model.h)


@needs_packing
def test_small_models_are_packed_too(characters, tmp_path):
    """They were left plain while calling a packed product cost more than it saved; but only packed
    rows are the same alone and among others."""
    config = ModelConfig(vocab_size=97, n_positions=48, n_embd=48, n_layer=2, n_head=3)
    save_model(tmp_path / "model", make_model(config), characters)
    small, _ = inference.load_for_inference(str(tmp_path / "model"), "cpu")
    assert isinstance(small, PackedGPT2)
