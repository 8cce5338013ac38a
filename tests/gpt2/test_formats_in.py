"""Models of other programs, converted: their logits, their greedy tokens, their characters."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from gpt2.__main__ import main
from gpt2.errors import UserError
from gpt2.folder import load_model, save_model
from gpt2.formats.foreign_model import Hints
from gpt2.formats.incoming import convert_foreign
from gpt2.formats.outgoing import export_model
from gpt2.generate import generate_tokens
from gpt2.hub.resolve import STORYTELLER_FOLDER
from gpt2.model import GPT2
from gpt2.sampling import Sampling
from gpt2.tokenizer import CharacterTokenizer, gpt2_tokenizer
from tests.support.foreign_models import (
    HEADS,
    LAYERS,
    VOCABULARY,
    WIDTH,
    WINDOW,
    FromScratchModel,
    KarpathyModel,
    randomized,
    write_keras_preset,
    write_llm_c,
)

ALPHABET = ["\n", *map(chr, range(0x20, 0x60))]
GREEDY = Sampling(temperature=0, repetition_penalty=1, top_k=0, top_p=1, max_new_tokens=64)
SHAPE = {"n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH, "block_size": WINDOW}


def write_meta(folder: Path) -> None:
    """nanoGPT's table of characters."""
    table = dict(enumerate(ALPHABET))
    meta = {"vocab_size": len(table), "itos": table, "stoi": {c: i for i, c in table.items()}}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


def write_nanogpt(folder: Path, model: KarpathyModel, prefix: str = "") -> Path:
    """ckpt.pt as nanoGPT's train.py saves it, the optimizer's state included."""
    args = {**SHAPE, "bias": True, "vocab_size": model.lm_head.out_features, "dropout": 0.1}
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint = {
        "model": {prefix + name: tensor for name, tensor in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "model_args": args,
        "iter_num": 7,
        "best_val_loss": torch.tensor(1.5),
        "config": {"dataset": "letters", "learning_rate": 1e-3},
    }
    folder.mkdir(exist_ok=True)
    torch.save(checkpoint, folder / "ckpt.pt")
    return folder


@torch.no_grad()
def assert_same(folder: Path, theirs: torch.nn.Module, vocabulary: int = VOCABULARY) -> GPT2:
    """Logits in float32 and float64, and 64 greedy tokens."""
    tokens = torch.arange(WINDOW)[None] * 7 % vocabulary
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        ours, _ = load_model(folder, device="cpu", dtype=dtype)
        expected = theirs.to(dtype)(tokens)
        assert expected.std() > 0.1
        assert (ours(tokens) - expected).abs().max() <= tolerance
    written = [1, 2, 3]
    for _ in range(64):
        written.append(int(theirs(torch.tensor([written]))[0, -1].argmax()))
    assert list(generate_tokens(ours, [1, 2, 3], GREEDY)) == written[3:]
    return ours


@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module._orig_mod."])
def test_nanogpts_checkpoint_and_its_characters(bias, prefix, tmp_path):
    """Its own error told its users to train again; yet all that it holds is tensors and numbers."""
    theirs = randomized(KarpathyModel(nano=True, bias=bias))
    source = write_nanogpt(tmp_path / "nano", theirs, prefix)
    write_meta(source)
    _, found = convert_foreign(source, tmp_path / "out")
    assert found.kind == "nanoGPT's checkpoint"
    ours = assert_same(tmp_path / "out", theirs)
    assert ours.config.exact_gelu
    assert ours.config.tie_word_embeddings
    _, tokenizer = load_model(tmp_path / "out", device="cpu")
    assert tokenizer.itos == ALPHABET


def test_generate_and_score_take_a_checkpoint_as_their_model(tmp_path, call_here):
    source = write_nanogpt(tmp_path / "nano", randomized(KarpathyModel(nano=True)))
    model = ("--model", str(source / "ckpt.pt"))
    (tmp_path / "text.txt").write_text("HELLO " * 30)
    status, _, err = call_here(main, "generate", "HELLO", *model)
    assert status == 2
    assert "Give --tokenizer" in err
    assert "those of: python -m gpt2 convert" in err
    write_meta(source)
    status, out, _ = call_here(main, "generate", "HELLO", *model, "--max-new-tokens", "5")
    assert status == 0
    assert out.startswith("HELLO")
    status, out, _ = call_here(main, "score", str(tmp_path / "text.txt"), *model, "--json")
    assert json.loads(out)["loss"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"nano", "text.txt"}


def test_a_model_folder_in_shards_is_a_model_folder(base, tmp_path, call_here):
    """Its shards were taken for several models of another program, of which one was to be named;
    the reader of folders had known them all along."""
    source, file = tmp_path / "sharded", "model.safetensors"
    shutil.copytree(base, source)
    tensors = load_file(source / file)
    (source / file).unlink()
    names = {"a.safetensors": sorted(tensors)[::2], "b.safetensors": sorted(tensors)[1::2]}
    for shard, held in names.items():
        save_file({name: tensors[name] for name in held}, source / shard)
    weight_map = {name: shard for shard, held in names.items() for name in held}
    (source / f"{file}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    words = ("generate", "It", "--max-new-tokens", "5", "--seed", "1", "--model")
    whole, shards = (call_here(main, *words, str(folder)) for folder in (base, source))
    assert (shards[0], shards[1]) == (0, whole[1])
    (source / "b.safetensors").unlink()
    status, _, error = call_here(main, *words, str(source))
    assert (status, "not a file in this folder" in error) == (2, True)


def test_nanogpts_padded_vocabulary_keeps_its_rows_and_gets_openais_tokens(tmp_path):
    theirs = randomized(KarpathyModel(nano=True, vocabulary=50304))
    convert_foreign(write_nanogpt(tmp_path / "nano", theirs) / "ckpt.pt", tmp_path / "out")
    ours, tokenizer = load_model(tmp_path / "out", device="cpu")
    assert ours.config.vocab_size == 50304
    assert tokenizer.encode("Hello") == gpt2_tokenizer().encode("Hello")
    assert torch.equal(ours.wte.weight, theirs.lm_head.weight)


def test_mingpts_state_dict_by_the_config_beside_it_and_the_text_it_was_trained_on(tmp_path):
    theirs = randomized(KarpathyModel(nano=False))
    torch.save(theirs.state_dict(), tmp_path / "model.pt")
    (tmp_path / "config.json").write_text('{"model": {"model_type": "gpt-nano", "n_head": null}}')
    (tmp_path / "input.txt").write_text("".join(reversed(ALPHABET)))
    with pytest.raises(UserError, match="Give --tokenizer"):
        convert_foreign(tmp_path, tmp_path / "out")
    convert_foreign(tmp_path, tmp_path / "out", hints=Hints(tokenizer=tmp_path / "input.txt"))
    ours = assert_same(tmp_path / "out", theirs)
    assert (ours.config.n_head, ours.config.tie_word_embeddings) == (3, False)


@pytest.mark.parametrize("qkv_bias", [True, False], ids=["biases", "no QKV biases"])
def test_llms_from_scratch(qkv_bias, tmp_path, characters):
    """Separate matrices of queries, keys and values, and n_head is nowhere in the file."""
    theirs = randomized(FromScratchModel(qkv_bias))
    torch.save({"model_state_dict": theirs.state_dict(), "epoch": 3}, tmp_path / "gpt.pth")
    write_meta(tmp_path)
    with pytest.raises(UserError, match="Give --heads, a divisor of 24"):
        convert_foreign(tmp_path / "gpt.pth", tmp_path / "out")
    convert_foreign(tmp_path / "gpt.pth", tmp_path / "out", hints=Hints(heads=HEADS))
    assert_same(tmp_path / "out", theirs)


@pytest.mark.parametrize("transposed", [True, False], ids=["as nn.Linear's", "as OpenAI's"])
def test_plain_names_and_either_order_of_matrices(transposed, tmp_path):
    """Shapes say which order it is, squares follow the others."""
    theirs = randomized(FromScratchModel(True))
    state = theirs.state_dict()
    plain = {"trf_blocks": "blocks", "att.": "attn.", "W_query": "q_proj", "W_key": "k_proj",
             "W_value": "v_proj", "ff.layers.0": "mlp.fc1", "ff.layers.2": "mlp.fc2",
             "norm1.scale": "ln1.weight", "norm1.shift": "ln1.bias", "norm2.scale": "ln2.weight",
             "norm2.shift": "ln2.bias", "final_norm.scale": "ln_f.weight",
             "final_norm.shift": "ln_f.bias", "tok_emb": "token_embedding",
             "pos_emb": "position_embedding", "out_head": "head"}  # fmt: skip
    renamed = {}
    for name, tensor in state.items():
        is_matrix = tensor.dim() == 2 and "trf_blocks" in name and not name.endswith("mask")
        for old, new in plain.items():
            name = name.replace(old, new)
        renamed[name] = tensor if transposed or not is_matrix else tensor.t().contiguous()
    save_file(renamed, tmp_path / "weights.safetensors")
    write_meta(tmp_path)
    convert_foreign(tmp_path / "weights.safetensors", tmp_path / "out", hints=Hints(heads=HEADS))
    assert_same(tmp_path / "out", theirs)


@pytest.mark.parametrize("version", [3, 5])
def test_llm_cs_file(version, tmp_path):
    theirs = randomized(KarpathyModel(nano=False))
    theirs.lm_head.weight = theirs.transformer["wte"].weight
    if version == 5:
        theirs.to(torch.bfloat16).float()
    write_llm_c(tmp_path / "gpt2.bin", theirs, version, padded=128)
    write_meta(tmp_path)
    convert_foreign(tmp_path / "gpt2.bin", tmp_path / "out")
    ours = assert_same(tmp_path / "out", theirs)
    assert (ours.config.vocab_size, ours.config.n_head) == (VOCABULARY, HEADS)


def test_a_preset_of_keras_hub(tmp_path):
    theirs = randomized(KarpathyModel(nano=False))
    theirs.lm_head.weight = theirs.transformer["wte"].weight
    write_keras_preset(tmp_path / "preset", theirs)
    write_meta(tmp_path)
    convert_foreign(tmp_path / "preset", tmp_path / "out", hints=Hints(tokenizer=tmp_path))
    assert_same(tmp_path / "out", theirs)


def their_gpt2(**other: object) -> transformers.GPT2LMHeadModel:
    shape = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=WINDOW, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
        bos_token_id=None, eos_token_id=None, attn_implementation="eager", **other,
    )  # fmt: skip
    return randomized(transformers.GPT2LMHeadModel(shape))


@pytest.mark.parametrize("shards", [1, 3])
def test_a_hugging_face_folder_of_bin_files(shards, tmp_path):
    """As distilgpt2 and DialoGPT came for years: a prefix or none, masks, a copied head, shards.
    The number fields of Cerebras-GPT's and CRFM's models come along."""
    theirs = their_gpt2(
        n_inner=40, layer_norm_epsilon=1e-3, activation_function="gelu",
        scale_attn_by_inverse_layer_idx=True,
    )  # fmt: skip
    source = tmp_path / "source"
    source.mkdir()
    theirs.config.save_pretrained(source)
    CharacterTokenizer(ALPHABET).save(source)
    state = dict(theirs.state_dict())
    for layer in range(LAYERS):
        state[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, WINDOW, WINDOW).tril().bool()
        state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    if shards == 1:  # the older form of file, without an archive
        state = {name.removeprefix("transformer."): tensor for name, tensor in state.items()}
        torch.save(state, source / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    else:
        names, files = sorted(state), {}
        for index in range(shards):
            file = f"pytorch_model-0000{index + 1}-of-0000{shards}.bin"
            part = {name: state[name].clone() for name in names[index::shards]}
            torch.save(part, source / file)
            files |= dict.fromkeys(part, file)
        index = {"metadata": {}, "weight_map": files}
        (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    given = source / "pytorch_model.bin" if shards == 1 else source  # its config is followed, too
    convert_foreign(given, tmp_path / "out")
    tokens = torch.arange(WINDOW)[None] * 7 % VOCABULARY
    ours, _ = load_model(tmp_path / "out", device="cpu")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        expected = theirs(tokens).logits
        assert (ours(tokens) - expected).abs().max() <= 1e-4
        assert (again.eval()(tokens).logits - expected).abs().max() <= 1e-4


def test_a_folder_as_pytorch_model_bin_opens_in_transformers_and_comes_back(
    make_model, characters, tmp_path, call_here
):
    model = make_model(qkv_bias=False, tie_word_embeddings=False)
    save_model(tmp_path / "model", model, characters)
    words = ("convert", str(tmp_path / "model"), str(tmp_path / "bin"), "--to", "pytorch")
    status, out, err = call_here(main, *words)
    assert (status, out.strip()) == (0, str(tmp_path / "bin"))
    assert "pickle" in err
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "bin", output_loading_info=True
    )
    assert not any(report.values()), report
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        assert (theirs.eval()(tokens).logits - model(tokens)).abs().max() <= 1e-4
    status, _, err = call_here(main, "convert", str(tmp_path / "bin"), str(tmp_path / "back"))
    assert status == 0
    assert "a Hugging Face folder: 2 layers, 24 wide, 3 heads, 97 tokens, GELU by tanh" in err
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("model", "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"blocks.0.mlp.gate_proj.weight": (96, 24)}, "an MLP with a gate, as in Llama"),
        ({"blocks.0.attn.rotary_emb.inv_freq": (4,)}, "rotary positions"),
        ({"layers.1.input_layernorm.weight": (24,)}, "RMSNorm"),
        ({"trf_blocks.0.att.q_norm.scale": (8,)}, "norms of queries and keys"),
        ({"something.weight": (3,)}, "'something.weight' belongs to no GPT-2"),
        ({"module.tok_emb.weight": (65, 24)}, "wte.weight is there twice"),
        ({"trf_blocks.0.att.W_query.weight": (24, 25)}, r"the shape \[24, 25\], not \[24, 24\]"),
        ({"trf_blocks.0.ff.layers.2.weight": (96, 24)}, r"the shape \[96, 24\], not \[24, 96\]"),
        ({"trf_blocks.7.norm1.scale": (24,)}, "is missing"),
        ({"trf_blocks.5000.norm1.scale": (24,)}, "of a layer beyond any"),
        ({"pos_emb.weight": None}, "another architecture: rotary positions or ALiBi"),
        ({"final_norm.shift": None}, "RMSNorm, another architecture"),
        ({"tok_emb.weight": (65, 24, 1)}, "not two dimensions"),
    ],
)
def test_another_architecture_and_mixed_up_shapes_are_refused_by_name(extra, message, tmp_path):
    state = randomized(FromScratchModel(True)).state_dict()
    for name, shape in extra.items():
        state.pop(name, None)
        if shape:
            state[name] = torch.ones(shape)
    torch.save(state, tmp_path / "gpt.pt")
    with pytest.raises(UserError, match=message):
        convert_foreign(tmp_path / "gpt.pt", tmp_path / "out", hints=Hints(heads=HEADS))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["storyteller", "x.gguf", "--to", "gguf", "--heads", "3"], "--heads is not for this"),
        (["124M", "x", "--tokenizer", "y"], "--tokenizer is not for this source"),
        (["124M", "x", "--dtype", "q8_0"], "give --to gguf, or another --dtype"),
        (["storyteller", "x", "--to", "onnx", "--dtype", "float16"], "--to onnx takes --dtype"),
        (["storyteller", "x", "--to", "pytorch", "--dtype", "q8_0"], "--to pytorch takes"),
        (["storyteller", ".", "--to", "gguf"], "exists already and is not overwritten"),
        (["README.md", "x"], "README.md is one file of a model"),
    ],
)
def test_a_call_that_asks_for_what_is_not_there_is_told(words, message, call_here, monkeypatch):
    monkeypatch.chdir(STORYTELLER_FOLDER)
    status, _, err = call_here(main, "convert", *words)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("library", ["gguf", "onnx", "h5py"])
def test_a_library_that_is_missing_is_named_with_its_install(library, tmp_path, monkeypatch):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    write_keras_preset(tmp_path / "preset", KarpathyModel(nano=False))
    monkeypatch.setitem(sys.modules, library, None)
    calls = {
        "gguf": lambda: convert_foreign(tmp_path / "a.gguf", tmp_path / "out"),
        "h5py": lambda: convert_foreign(tmp_path / "preset", tmp_path / "out"),
        "onnx": lambda: export_model("storyteller", tmp_path / "out", "onnx"),
    }
    with pytest.raises(UserError, match=f"not installed .*: pip install {library}"):
        calls[library]()
    assert not (tmp_path / "out").exists()
