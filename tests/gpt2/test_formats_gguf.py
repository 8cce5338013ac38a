"""GGUF files: written by us and read by the library, written with the library and read by us."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from gpt2.__main__ import main
from gpt2.added_tokens import AddedToken
from gpt2.byte_pairs import BytePairSettings, byte_characters
from gpt2.errors import UserError
from gpt2.folder import load_model, save_model
from gpt2.formats.incoming import convert_foreign
from gpt2.formats.outgoing import export_model
from gpt2.model import GPT2
from gpt2.tokenizer import BytePairTokenizer

MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n"), ("an", "d")]
RELATIVE = {
    "n_inner": 32, "layer_norm_epsilon": 1e-3, "exact_gelu": True,
    "tie_word_embeddings": False, "qkv_bias": False,
}  # fmt: skip


def some_tokenizer() -> BytePairTokenizer:
    """A vocabulary of its own in an order of its own, an end, an added word, a hole before it."""
    tokens = [*byte_characters(), *(left + right for left, right in MERGES)]
    vocabulary = {token: index for index, token in enumerate(reversed(tokens))}
    count = len(vocabulary)
    added = (
        AddedToken(count, "<|end|>", special=True, normalized=False),
        AddedToken(count + 2, "<speaker>", special=True, normalized=False),
    )
    settings = BytePairSettings(added=added, roles=(("eos_token", "<|end|>"),))
    return BytePairTokenizer(vocabulary, MERGES, settings)


@pytest.fixture
def folder(make_model, tmp_path):
    """folder(**shape): a model folder whose vocabulary is padded, and its model."""

    def make(**shape: object) -> GPT2:
        model = make_model(n_embd=32, n_head=2, vocab_size=288, **shape)
        save_model(tmp_path / "model", model, some_tokenizer())
        return model

    return make


def export(tmp_path, dtype: str = "float32") -> gguf.GGUFReader:
    export_model(str(tmp_path / "model"), tmp_path / "a.gguf", "gguf", dtype)
    return gguf.GGUFReader(tmp_path / "a.gguf")


@pytest.mark.parametrize("shape", [{}, RELATIVE], ids=["plain", "relative"])
def test_the_librarys_own_table_finds_every_tensor_with_its_values(shape, folder, tmp_path):
    model = folder(**shape)
    stored = {tensor.name: tensor.data for tensor in export(tmp_path).tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, model.config.n_layer)
    for name, tensor in model.state_dict().items():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        is_matrix = name.endswith("weight") and (".attn." in name or ".mlp." in name)
        expected = (tensor.t() if is_matrix else tensor).numpy()
        assert np.array_equal(stored.pop(theirs), expected), name
    assert all(name.endswith("attn_qkv.bias") and not x.any() for name, x in stored.items())
    assert len(stored) == (0 if model.config.qkv_bias else 2)


@pytest.mark.parametrize("shape", [{}, RELATIVE], ids=["plain", "relative"])
def test_a_float32_file_comes_back_bit_for_bit_with_the_same_tokens(shape, folder, tmp_path):
    model = folder(**shape)
    export(tmp_path)
    convert_foreign(tmp_path / "a.gguf", tmp_path / "back")
    again, tokenizer = load_model(tmp_path / "back", device="cpu")
    tokens = torch.arange(60)[None] * 7 % 288
    assert torch.equal(again(tokens), model(tokens))
    before = some_tokenizer()
    for text in ("the band <speaker> and<|end|>the\n", "é 😀 the the", "<speaker>", ""):
        assert tokenizer.encode(text) == before.encode(text)
        assert tokenizer.decode(before.encode(text)) == text
    assert (tokenizer.end_of_text, tokenizer.vocab_size) == (before.end_of_text, 264)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float16", 1e-3), ("bfloat16", 8e-3), ("q8_0", 8e-3)]
)
def test_other_number_formats_are_as_close_as_they_can_be(dtype, tolerance, folder, tmp_path):
    model = folder()
    kinds = {tensor.name: tensor.tensor_type.name for tensor in export(tmp_path, dtype).tensors}
    assert kinds["blk.0.attn_qkv.weight"] == {"float16": "F16", "bfloat16": "BF16"}.get(
        dtype, "Q8_0"
    )
    assert kinds["blk.0.attn_qkv.bias"] == kinds["position_embd.weight"] == "F32"
    convert_foreign(tmp_path / "a.gguf", tmp_path / "back")
    again, _ = load_model(tmp_path / "back", device="cpu")
    for name, tensor in model.state_dict().items():
        difference = (again.state_dict()[name] - tensor).abs().max()
        assert difference <= tolerance * tensor.abs().max(), name


def test_attention_scaled_by_the_layer_is_folded_into_the_queries(folder, tmp_path):
    """llama.cpp has no such scale; its logits, and those of what comes back, are the same."""
    model = folder(scale_attn_by_inverse_layer_idx=True, n_layer=3)
    export(tmp_path)
    convert_foreign(tmp_path / "a.gguf", tmp_path / "back")
    again, _ = load_model(tmp_path / "back", device="cpu")
    assert not again.config.scale_attn_by_inverse_layer_idx
    tokens = torch.arange(60)[None] * 7 % 288
    assert (again(tokens) - model(tokens)).abs().max() < 1e-4


def test_keys_and_tokens_are_what_llama_cpp_reads(folder, tmp_path):
    folder()
    reader = export(tmp_path)
    keys = {name: field.contents() for name, field in reader.fields.items() if "GGUF" not in name}
    assert keys["general.architecture"] == "gpt2"
    assert keys["gpt2.context_length"] == 64
    assert keys["gpt2.embedding_length"] == 32
    assert keys["gpt2.feed_forward_length"] == 128
    assert keys["gpt2.block_count"] == keys["gpt2.attention.head_count"] == 2
    assert abs(keys["gpt2.attention.layer_norm_epsilon"] - 1e-5) < 1e-11
    assert (keys["tokenizer.ggml.model"], keys["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == 288
    assert tokens[261:264] == ["<|end|>", "[PAD262]", "<speaker>"]
    # An end is never typed; a speaker is, wherever it stands; a hole is nothing.
    assert types[260:264] == [1, 3, 5, 4]
    assert keys["tokenizer.ggml.merges"] == ["t h", "th e", "Ġ the", "a n", "an d"]
    assert keys["tokenizer.ggml.eos_token_id"] == 261


def test_what_llama_cpp_has_no_form_for_is_refused_and_nothing_written(
    make_model, characters, tmp_path, call_here
):
    save_model(tmp_path / "model", make_model(), characters)
    words = ("convert", str(tmp_path / "model"), str(tmp_path / "a.gguf"), "--to", "gguf")
    status, _, err = call_here(main, *words)
    assert status == 2
    assert "GGUF has byte pairs only" in err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_form_that_loses_too_much_and_another_cutter_of_words_are_refused(folder, tmp_path):
    folder()
    reader = export(tmp_path)
    data = bytearray((tmp_path / "a.gguf").read_bytes())
    cutter = data.index(b"gpt-2")
    data[cutter : cutter + 5] = b"gpt-3"
    (tmp_path / "b.gguf").write_bytes(data)
    with pytest.raises(UserError, match=r"'gpt-3', not GPT-2's byte pairs\. Give the model's own"):
        convert_foreign(tmp_path / "b.gguf", tmp_path / "out")
    field = next(one for one in reader.tensors if one.name == "blk.0.ffn_up.weight").field
    data = bytearray((tmp_path / "a.gguf").read_bytes())
    kind = field.offset + sum(int(part.nbytes) for part in field.parts[:4])
    data[kind : kind + 4] = int(gguf.GGMLQuantizationType.Q4_0).to_bytes(4, "little")
    (tmp_path / "c.gguf").write_bytes(data)
    with pytest.raises(UserError, match="has the type Q4_0, which loses too much"):
        convert_foreign(tmp_path / "c.gguf", tmp_path / "out")
    (tmp_path / "d.gguf").write_bytes((tmp_path / "a.gguf").read_bytes()[:-2000])
    with pytest.raises(UserError, match="not a sound GGUF file: it ends early"):
        convert_foreign(tmp_path / "d.gguf", tmp_path / "out")
