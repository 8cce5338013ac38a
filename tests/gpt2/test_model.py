"""The model against `transformers`, and against itself with and without a cache.

`transformers` is the independent oracle: it shares no code with this project. GELU's form, the
norms' epsilon, the scaling of attention and every name and shape are covered by equal logits.
"""

from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from gpt2.folder import load_model, save_model
from gpt2.generate import generate_tokens
from gpt2.model import GPT2, SIZES, ModelConfig
from gpt2.sampling import Sampling
from gpt2.tokenizer import BytePairTokenizer, byte_characters, gpt2_tokenizer

TOYS = {
    "two layers": ModelConfig(vocab_size=97, n_positions=128, n_embd=24, n_layer=2, n_head=3),
    "one head": ModelConfig(vocab_size=101, n_positions=80, n_embd=16, n_layer=1, n_head=1),
    "deep": ModelConfig(vocab_size=300, n_positions=100, n_embd=40, n_layer=5, n_head=5),
    "heads of one": ModelConfig(vocab_size=97, n_positions=96, n_embd=8, n_layer=2, n_head=8),
    "own head": ModelConfig(
        vocab_size=97, n_positions=96, n_embd=24, n_layer=2, n_head=2, tie_word_embeddings=False
    ),
    # As Cerebras-GPT (its MLP and GELU) and CRFM's models (their attention), all at once.
    "relative": ModelConfig(
        vocab_size=97, n_positions=96, n_embd=24, n_layer=3, n_head=3, n_inner=50,
        layer_norm_epsilon=1e-3, exact_gelu=True, scale_attn_by_inverse_layer_idx=True,
    ),
}  # fmt: skip
EACH_TOY = pytest.mark.parametrize("config", TOYS.values(), ids=TOYS)
GREEDY = Sampling(temperature=0, repetition_penalty=1, top_k=0, top_p=1, max_new_tokens=64)
# The largest difference of a logit that rounding may make.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


def oracle(config: ModelConfig, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """A model of `transformers` with the shape `config`, its parameters at their initial values."""
    shape = transformers.GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.n_positions,
        n_embd=config.n_embd,
        n_layer=config.n_layer,
        n_head=config.n_head,
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        tie_word_embeddings=config.tie_word_embeddings,
        n_inner=config.n_inner,
        layer_norm_epsilon=config.layer_norm_epsilon,
        activation_function="gelu" if config.exact_gelu else "gelu_new",
        scale_attn_by_inverse_layer_idx=config.scale_attn_by_inverse_layer_idx,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="eager",
    )
    return transformers.GPT2LMHeadModel(shape).to(dtype).eval()


def read_by_transformers(folder, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """Load strictly: nothing missing, nothing left over, nothing of another shape."""
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), report
    return model.eval()


def random_tokens(config: ModelConfig, batch: int, length: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (batch, length), generator=generator)


@torch.no_grad()
def assert_equal_logits(ours: GPT2, theirs: torch.nn.Module, tokens: torch.Tensor) -> None:
    expected = theirs(tokens).logits
    actual = ours(tokens)
    assert actual.dtype == expected.dtype
    # Otherwise a comparison of nearly constant outputs would prove little.
    assert expected.std() > 0.1
    assert (actual - expected).abs().max() <= TOLERANCE[expected.dtype]
    assert torch.equal(actual.argmax(-1), expected.argmax(-1))


def assert_equal_gradients(ours: GPT2, theirs: torch.nn.Module, tokens: torch.Tensor) -> None:
    for model, logits in ((ours, ours(tokens)), (theirs, theirs(tokens).logits)):
        model.zero_grad()
        F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    expected = {
        name.removeprefix("transformer."): parameter.grad
        for name, parameter in theirs.named_parameters()
    }
    actual = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        largest = gradient.abs().max()
        assert largest > 0, f"{name} has no gradient: nothing is compared"
        assert (actual[name] - gradient).abs().max() <= 1e-9 * largest, name


def assert_equal_continuation(ours: GPT2, theirs: torch.nn.Module, prompt: list[int]) -> None:
    expected = theirs.generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=64, pad_token_id=0
    )
    assert list(generate_tokens(ours, prompt, GREEDY)) == expected[0, len(prompt) :].tolist()


@pytest.fixture
def theirs(randomize_parameters):
    """theirs(config, dtype): an oracle with random parameters."""

    def build(config: ModelConfig, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
        model = oracle(config, dtype)
        randomize_parameters(model, seed=1, scale=0.3)
        return model

    return build


@pytest.fixture
def their_folder(theirs, characters, tmp_path):
    """their_folder(config, dtype): a folder that transformers wrote, and its model."""

    def build(config: ModelConfig, dtype: torch.dtype = torch.float32, **how: object):
        model = theirs(config, dtype)
        model.save_pretrained(tmp_path, **how)
        characters.save(tmp_path)
        return tmp_path, model

    return build


# A folder of transformers, read here


@EACH_TOY
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
def test_a_folder_written_by_transformers_gives_its_logits(config, dtype, their_folder):
    folder, theirs = their_folder(config, dtype)
    ours, _ = load_model(folder, device="cpu", dtype=dtype)
    assert ours.config == config
    assert_equal_logits(ours, theirs, random_tokens(config, 3, config.n_positions))


@EACH_TOY
def test_gradients_equal_those_of_transformers(config, their_folder):
    folder, theirs = their_folder(config, torch.float64)
    ours, _ = load_model(folder, device="cpu", dtype=torch.float64)
    assert_equal_gradients(ours, theirs, random_tokens(config, 3, config.n_positions))


@EACH_TOY
def test_64_greedy_tokens_equal_those_of_transformers(config, their_folder):
    folder, theirs = their_folder(config, torch.float64)
    ours, _ = load_model(folder, device="cpu", dtype=torch.float64)
    assert_equal_continuation(ours, theirs, random_tokens(config, 1, 9)[0].tolist())


def old_file(theirs: torch.nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors as files of 2019 to 2023 carry them: masks in every layer, a copied head."""
    tensors = {name: tensor.clone() for name, tensor in theirs.transformer.state_dict().items()}
    config = theirs.config
    for layer in range(config.n_layer):
        mask = torch.ones(config.n_positions, config.n_positions).tril()[None, None]
        tensors[f"h.{layer}.attn.bias"] = mask.to(torch.uint8)
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    tensors["lm_head.weight"] = theirs.lm_head.weight.detach().clone()
    return tensors


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_masks_a_prefix_and_a_copied_head_of_older_files_are_understood(prefix, their_folder):
    config = TOYS["two layers"]
    folder, theirs = their_folder(config)
    save_file(old_file(theirs, prefix), folder / "model.safetensors")
    ours, _ = load_model(folder, device="cpu")
    assert_equal_logits(ours, theirs, random_tokens(config, 2, 50))


def test_a_model_in_many_shards_is_read_by_its_index(their_folder):
    config = TOYS["deep"]
    folder, theirs = their_folder(config, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 3
    assert not (folder / "model.safetensors").exists()
    ours, _ = load_model(folder, device="cpu")
    assert_equal_logits(ours, theirs, random_tokens(config, 2, 50))


# Our folder, read by transformers


@EACH_TOY
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
def test_transformers_reads_our_folder_completely(config, dtype, make_model, characters, tmp_path):
    shape = {name: getattr(config, name) for name in config.__dataclass_fields__}
    ours = make_model(seed=2, dtype=dtype, **shape)
    save_model(tmp_path, ours, characters)
    theirs = read_by_transformers(tmp_path, dtype)
    assert_equal_logits(ours, theirs, random_tokens(config, 2, config.n_positions))


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_without_qkv_biases_comes_back_and_is_one_with_zeros_to_transformers(
    tied, make_model, characters, tmp_path
):
    """transformers has no such option: a file without these biases would start from random ones."""
    ours = make_model(seed=3, qkv_bias=False, tie_word_embeddings=tied, dropout=0.1)
    assert not any(name.endswith("c_attn.bias") for name in ours.state_dict())
    save_model(tmp_path, ours, characters)

    again, _ = load_model(tmp_path, device="cpu")
    assert again.config == ours.config
    assert again.state_dict().keys() == ours.state_dict().keys()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    written = load_file(tmp_path / "model.safetensors")
    assert not written["h.0.attn.c_attn.bias"].any()
    assert_equal_logits(ours, read_by_transformers(tmp_path), random_tokens(ours.config, 2, 64))


READ_ALL = """
import json, sys
import torch, transformers
transformers.utils.logging.disable_progress_bar()  # it writes to stderr, and is no warning
from transformers import AutoModelForCausalLM, AutoTokenizer
results = {}
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = None
    if not folder.endswith("characters"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("Don't  stop: 3 \\u00e9\\U0001f600")["input_ids"] if tokenizer else [1, 2, 3]
    continued = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=2,
                               attention_mask=torch.ones(1, len(ids)), pad_token_id=0)
    results[folder] = ids, continued.shape[1], str(model.dtype)
print(json.dumps(results))
"""


def test_transformers_opens_and_runs_our_folders_without_one_word_of_warning(
    make_model, characters, tmp_path
):
    """In a process of its own: transformers shows many warnings only once in a process."""
    merges = [("i", "t"), ("Ġ", "s")]
    tokens = [*byte_characters(), "it", "Ġs", "<|endoftext|>"]
    bytes_and_two = BytePairTokenizer({token: i for i, token in enumerate(tokens)}, merges)
    without_end = BytePairTokenizer({token: i for i, token in enumerate(tokens[:-1])}, merges)
    model = make_model(vocab_size=bytes_and_two.vocab_size)
    folders = {
        "tied": (model, bytes_and_two),
        "bfloat16": (make_model(vocab_size=259, dtype=torch.bfloat16), bytes_and_two),
        "untied": (make_model(vocab_size=259, tie_word_embeddings=False), bytes_and_two),
        "padded": (make_model(vocab_size=320, qkv_bias=False, dropout=0.1), bytes_and_two),
        "without-end-of-text": (make_model(vocab_size=258), without_end),
        "characters": (make_model(vocab_size=97), characters),
    }
    for name, (model, tokenizer) in folders.items():
        save_model(tmp_path / name, model, tokenizer)
    paths = [str(tmp_path / name) for name in folders]
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, *paths], capture_output=True, text=True, env=os.environ
    )
    assert done.stderr == ""
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 1, lines  # nothing but the result
    for path, (ids, length, dtype) in json.loads(lines[0]).items():
        assert length == len(ids) + 2
        assert dtype == ("torch.bfloat16" if path.endswith("bfloat16") else "torch.float32")
        if not path.endswith("characters"):
            tokenizer = folders[path.rsplit("/", 1)[1]][1]
            assert ids == tokenizer.encode("Don't  stop: 3 é\U0001f600")


# The full size, once


@pytest.fixture(scope="session")
def full_size(tmp_path_factory, randomize_parameters):
    """A 124M model with random parameters in a folder that transformers wrote, and the model."""
    folder = tmp_path_factory.mktemp("full") / "124M"
    theirs = oracle(SIZES["124M"])
    randomize_parameters(theirs, seed=4, scale=0.05)
    theirs.save_pretrained(folder)
    gpt2_tokenizer().save(folder)
    yield folder, theirs
    for path in folder.iterdir():  # half a gigabyte: not kept as pytest keeps the last folders
        path.unlink()
    gc.collect()


def test_124m_equals_transformers_in_float32(full_size):
    folder, theirs = full_size
    ours, tokenizer = load_model(folder, device="cpu")
    assert tokenizer.vocab_size == ours.config.vocab_size
    assert ours.parameter_count() == 124_439_808
    # Our 64 tokens are its greedy choice if each is its likeliest after those before it.
    prompt = random_tokens(ours.config, 1, 20)
    tokens = torch.tensor(
        [prompt[0].tolist() + list(generate_tokens(ours, prompt[0].tolist(), GREEDY))]
    )
    assert_equal_logits(ours, theirs, tokens)
    with torch.no_grad():
        assert torch.equal(theirs(tokens).logits[0, 19:-1].argmax(-1), tokens[0, 20:])
    assert tokens[0, 20:].unique().numel() > 10  # not one token again and again


def test_124m_survives_the_way_through_our_folder_bit_for_bit(full_size, tmp_path):
    folder, theirs = full_size
    save_model(tmp_path / "again", *load_model(folder, device="cpu"))
    again = read_by_transformers(tmp_path / "again")
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    (tmp_path / "again" / "model.safetensors").unlink()


def test_124m_equals_transformers_in_float64_with_all_gradients(full_size):
    folder, theirs = full_size
    try:
        theirs.double()
        ours, _ = load_model(folder, device="cpu", dtype=torch.float64)
        assert_equal_logits(ours, theirs, random_tokens(ours.config, 2, 10))
        assert_equal_gradients(ours, theirs, random_tokens(ours.config, 1, 10))
    finally:
        theirs.zero_grad()
        theirs.float()  # exact: every value came from float32


# The cache


@pytest.fixture(scope="session")
def long_window(make_model):
    """long_window(dtype): a toy model that reads 1024 tokens."""
    return lambda dtype: make_model(
        seed=5, dtype=dtype, vocab_size=61, n_positions=1024, n_embd=32, n_head=4
    )


def chunks(tokens: torch.Tensor, seed: int, longest: int) -> list[torch.Tensor]:
    """`tokens` (B, T) cut in random places, single tokens among the pieces."""
    generator = torch.Generator().manual_seed(seed)
    sizes = []
    while (left := tokens.size(1) - sum(sizes)) > 0:
        size = int(torch.randint(1, longest + 1, (), generator=generator))
        sizes.append(min(size, left))
    return list(tokens.split(sizes, dim=1))


EACH_DTYPE = pytest.mark.parametrize(
    ("dtype", "line"), [(torch.float32, 1e-4), (torch.float64, 1e-10)], ids=["float32", "float64"]
)


@EACH_DTYPE
@pytest.mark.parametrize("length", [1, 2, 7, 1023, 1024])
@torch.no_grad()
def test_a_cache_changes_no_logit(length, dtype, line, long_window):
    """Whole prompts, then in chunks, then the last token alone, for batches of 1 and 3."""
    model = long_window(dtype)
    for batch in (1, 3):
        tokens = random_tokens(model.config, batch, length, seed=length)
        expected = model(tokens)
        ways = {
            "at once": [tokens],
            "random chunks": chunks(tokens, seed=length, longest=max(2, length // 5)),
            "small chunks": [*chunks(tokens[:, :100], seed=length, longest=3), tokens[:, 100:]],
            "one after the rest": [tokens[:, :-1], tokens[:, -1:]],
        }
        for way, pieces in ways.items():
            cache = model.new_cache(batch)
            logits = [model(piece, cache) for piece in pieces if piece.size(1)]
            assert cache.length == length
            assert (torch.cat(logits, dim=1) - expected).abs().max() <= line, way


@EACH_DTYPE
@torch.no_grad()
def test_a_repeated_cache_continues_each_sequence_by_itself(dtype, line, long_window):
    model = long_window(dtype)
    prompt = random_tokens(model.config, 1, 50)
    ends = random_tokens(model.config, 4, 30, seed=1)
    once = model.new_cache(1, capacity=80)
    model(prompt, once)
    cache = once.repeat(4)
    actual = torch.cat([model(ends[:, :10], cache), model(ends[:, 10:11], cache)], dim=1)
    expected = model(torch.cat([prompt.repeat(4, 1), ends[:, :11]], dim=1))[:, 50:]
    assert (actual - expected).abs().max() <= line
    # The cache it came from is still that of the prompt alone.
    assert (once.length, once.batch, cache.length, cache.batch) == (50, 1, 61, 4)
    alone = model(torch.cat([prompt, ends[:1, :1]], dim=1))[:, 50:]
    assert (model(ends[:1, :1], once) - alone).abs().max() <= line


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_a_future_token_never_changes_a_past_logit_by_a_bit(dtype, make_model):
    model = make_model(seed=6, dtype=dtype)
    tokens = random_tokens(model.config, 2, 64)
    before = model(tokens)
    for place in (1, 2, 17, 40, 63):
        changed = tokens.clone()
        changed[:, place:] = (changed[:, place:] + 1) % model.config.vocab_size
        after = model(changed)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.allclose(after[:, place:], before[:, place:])  # and is read itself


@torch.no_grad()
def test_more_tokens_than_the_window_or_the_cache_holds_are_refused(make_model):
    model = make_model(n_positions=16)
    tokens = random_tokens(model.config, 1, 17)
    with pytest.raises(ValueError, match="do not fit"):
        model(tokens)
    for capacity in (8, 16, 40):  # even a larger cache has no positions beyond the window
        cache = model.new_cache(1, capacity)
        room = min(capacity, 16)
        model(tokens[:, :room], cache)
        with pytest.raises(ValueError, match="do not fit"):
            model(tokens[:, :1], cache)
        assert cache.length == room
    half = model.new_cache(1, 8)
    model(tokens[:, :5], half)
    with pytest.raises(ValueError, match="do not fit"):
        model(tokens[:, :4], half)
    # A refusal leaves the cache as it was.
    assert torch.allclose(model(tokens[:, 5:8], half), model(tokens[:, :8])[:, 5:], atol=1e-5)


# Sizes and initial values


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (SIZES["124M"], 124_439_808),
        (SIZES["355M"], 354_823_168),
        (SIZES["774M"], 774_030_080),
        (SIZES["1558M"], 1_557_611_200),
        (replace(SIZES["124M"], tie_word_embeddings=False), 163_037_184),
        (replace(SIZES["124M"], tie_word_embeddings=False, qkv_bias=False), 163_009_536),
    ],
    ids=["124M", "355M", "774M", "1558M", "124M untied", "124M untied without QKV bias"],
)
def test_the_parameters_are_as_many_as_published(config, count):
    with torch.device("meta"):  # nothing is allocated
        assert GPT2(config).parameter_count() == count


def test_the_initial_loss_is_that_of_guessing():
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=5000, n_positions=256, n_embd=128, n_layer=4, n_head=4)
    tokens = random_tokens(config, 4, 257)
    with torch.no_grad():
        logits = GPT2(config)(tokens[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    assert abs(loss - math.log(config.vocab_size)) <= 0.1


def test_initial_values_are_those_of_openai():
    """0.02 for matrices, less by sqrt(2 n_layer) where 2 n_layer of them add up in the stream."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=3000,
        n_positions=300,
        n_embd=192,
        n_layer=8,
        n_head=4,
        tie_word_embeddings=False,
    )
    seen = set()
    for name, tensor in GPT2(config).state_dict().items():
        if tensor.dim() == 1:
            seen.add(name.split(".")[-1])
            assert (tensor == (1.0 if ".ln_" in f".{name}" and "weight" in name else 0.0)).all()
            continue
        std = 0.02 / math.sqrt(16) if name.endswith("c_proj.weight") else 0.02
        error = 5 / math.sqrt(2 * tensor.numel())  # five standard errors of a standard deviation
        assert abs(tensor.std() / std - 1) < error, name
        assert abs(tensor.mean()) < 5 * std / math.sqrt(tensor.numel()), name
    assert seen == {"weight", "bias"}


# Dropout


@torch.no_grad()
def test_dropout_does_nothing_in_eval_mode(make_model):
    """Not inside attention either, where a functional call has to be told."""
    with_dropout, without = make_model(seed=7, dropout=0.5), make_model(seed=7, dropout=0.0)
    tokens = random_tokens(without.config, 2, 64)
    assert torch.equal(with_dropout(tokens), without(tokens))
    assert torch.equal(without.train()(tokens), without(tokens))


@pytest.mark.parametrize("place", ["embedding", "attention", "attention output", "mlp output"])
@torch.no_grad()
def test_dropout_acts_in_training_at_each_of_its_places(place, make_model):
    """All other paths are shut, so that ones, kept with probability 3/4, are what arrives."""
    model = make_model(dropout=0.25, n_layer=1, n_positions=64, n_embd=24, n_head=3).train()
    block, seen = model.h[0], []
    for parameter in model.parameters():
        parameter.zero_()
    ones = {
        "embedding": model.wpe.weight,
        "attention": block.attn.c_attn.bias,  # equal scores: every weight is 1 / (t + 1)
        "attention output": block.attn.c_proj.bias,
        "mlp output": block.mlp.c_proj.bias,
    }
    ones[place].fill_(1.0)
    catch = block.attn.c_proj if place == "attention" else model.ln_f
    catch.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    torch.manual_seed(0)
    model(torch.zeros(8, 64, dtype=torch.long))
    (arrived,) = seen
    if place == "attention":
        scaled = arrived * torch.arange(1, 65).view(-1, 1) * 0.75  # whole numbers: weights kept
        assert (scaled - scaled.round()).abs().max() < 1e-3
        kept = scaled.sum() / (24 * 8 * sum(range(1, 65)))
    else:
        assert arrived.unique().tolist() == pytest.approx([0, 1 / 0.75])
        kept = (arrived > 0).float().mean()
    assert abs(kept - 0.75) < 0.02


# Shapes


@pytest.mark.parametrize(
    "impossible",
    [
        {"n_embd": 10, "n_head": 3},
        {"n_embd": 0},
        {"n_layer": 0},
        {"n_head": 0},
        {"n_head": -12},
        {"vocab_size": 0},
        {"n_positions": -1},
        {"n_embd": 768.0},
        {"n_layer": True},
        {"vocab_size": "50257"},
        {"n_positions": None},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": math.nan},
    ],
    ids=str,
)
def test_an_impossible_shape_is_refused_by_name(impossible):
    with pytest.raises(ValueError, match=next(iter(impossible))):
        ModelConfig(**impossible)
