"""`transformers` opens every kind of folder that is made here, and computes the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from gpt2.folder import load_model, save_model
from gpt2.hub.resolve import STORYTELLER_FOLDER
from gpt2.openai.convert import convert
from gpt2.tokenizer import CharacterTokenizer
from tests.support.openai_toy import random_variables, write_release

ROOT = Path(__file__).resolve().parent.parent
KINDS = ["converted", "storyteller", "tuned", "from nothing", "low rank", "characters"]
TEXT = "It is a truth universally acknowledged, that a text must be long. "


@pytest.fixture(scope="module")
def folders(make_model, characters, tmp_path_factory):
    """One folder of each kind, made the way its users make it."""
    base = tmp_path_factory.mktemp("kinds")
    write_release(base / "release", random_variables())
    convert(str(base / "release"), base / "converted")
    save_model(base / "characters", make_model(), characters)
    (base / "text.txt").write_text(TEXT * 60)
    train(base, "tuned", "--model", str(base / "converted"))
    train(base, "low rank", "--model", str(base / "converted"), "--lora-rank", "2")
    train(base, "from nothing", "--preset", "shakespeare-char-cpu")
    runs = {name: base / name / "model" for name in ("tuned", "low rank", "from nothing")}
    return {"storyteller": STORYTELLER_FOLDER, "converted": base / "converted",
            "characters": base / "characters", **runs}  # fmt: skip


def train(base: Path, name: str, *start: str) -> None:
    """Two steps of the trainer's own command."""
    flags = ["--steps", "2", "--batch-size", "2", "--micro-batch-size", "2", "--block-size", "8"]
    flags += ["--evaluate-every", "2", "--save-every", "2", "--precision", "float32"]
    command = [sys.executable, "-m", "train", "run", "--data", str(base / "text.txt")]
    done = subprocess.run(
        [*command, "--out", str(base / name), *start, *flags],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_opens_it_completely_and_gives_our_logits(kind, folders):
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        folders[kind], dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values()), report
    ours, _ = load_model(folders[kind], device="cpu", dtype=torch.float32)
    tokens = torch.arange(8)[None] * 7 % ours.config.vocab_size
    with torch.no_grad():
        difference = ours(tokens) - theirs.eval()(tokens).logits
    assert difference.abs().max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_its_tokenizer_gives_the_same_ids(kind, folders):
    _, ours = load_model(folders[kind], device="cpu")
    theirs = transformers.AutoTokenizer.from_pretrained(folders[kind])
    by_characters = isinstance(ours, CharacterTokenizer)
    for text in (TEXT, "" if by_characters else "the thé  thin\n\n'll \U0001f600 12345", ""):
        assert theirs(text)["input_ids"] == ours.encode(text)
        assert theirs.decode(ours.encode(text), clean_up_tokenization_spaces=False) == text
    assert theirs.eos_token_id == ours.end_of_text


@pytest.mark.parametrize("kind", KINDS)
def test_its_config_has_what_llama_cpp_and_vllm_read(kind, folders):
    """Their documented needs: `n_ctx`, the architecture's name, names without a prefix."""
    from safetensors import safe_open

    config = json.loads((folders[kind] / "config.json").read_text())
    assert config["n_ctx"] == config["n_positions"]
    assert config["architectures"] == ["GPT2LMHeadModel"]
    wanted = {"n_embd", "n_layer", "n_head", "n_inner", "layer_norm_epsilon", "vocab_size"}
    wanted |= {"activation_function", "tie_word_embeddings", "torch_dtype", "model_type"}
    assert wanted <= set(config)
    with safe_open(folders[kind] / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
        assert file.metadata() == {"format": "pt"}
    assert not [name for name in names if name.startswith("transformer.") or "lm_head" in name]
    assert not [name for name in names if name.endswith((".attn.bias", ".masked_bias"))]
