"""The storyteller's benchmark, its pure parts; and what the model's card and sample text say."""

from __future__ import annotations

import codecs
import json
import lzma
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.against_nanogpt import as_our_state
from benchmarks.prose import begins_with_a_sentence
from benchmarks.slurs import listed_hashes, listed_words, word_hash
from benchmarks.storyteller import xz_bits_per_byte
from gpt2.folder import load_model, load_model_shape, read_default_prompt, save_model
from gpt2.generate import generate_pieces
from gpt2.sampling import Sampling
from train.config import PRESETS
from ui.write.view import STORY_OPENINGS

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "storyteller"
CARD = (MODEL / "README.md").read_text(encoding="utf-8")


def test_a_listed_word_is_found_in_a_sentence_in_any_case_and_nothing_within_words():
    hashes = frozenset(map(word_hash, ("grumbo", "half-grumbo")))
    found = listed_words("The Grumbo's hat! A GRUMBO, and a grumbo-like one.", hashes)
    assert found == ["grumbo", "grumbo", "grumbo"]
    assert listed_words("a half-grumbo", hashes) == ["half-grumbo", "grumbo"]
    assert listed_words("The grumboling megagrumbo and gr umbo, grumbos.", hashes) == []


def test_the_shipped_list_knows_slurs_and_no_innocent_words():
    hashes = listed_hashes()
    assert all(re.fullmatch("[0-9a-f]{64}", line) for line in hashes)
    planted = codecs.decode("fdhnj", "rot13")  # not written in clear here either
    assert listed_words(f"He saw the {planted.upper()}.", hashes) == [planted]
    innocent = "A niggardly snigger; the raccoon's spicy faggot of sticks, a chink, a queer dyke."
    assert listed_words(innocent, hashes) == []


def test_xz_counts_what_a_text_adds_to_what_is_known():
    noise = random.Random(0).randbytes(20_000)
    assert xz_bits_per_byte(noise) == pytest.approx(8, abs=0.1)
    text = b"once upon a time " * 1000
    xz = 8 * len(lzma.compress(text, preset=9)) / len(text)
    assert xz_bits_per_byte(text) == pytest.approx(xz, rel=0.01)
    assert xz_bits_per_byte(noise, known=noise) < 0.2
    other = random.Random(1).randbytes(20_000)
    assert xz_bits_per_byte(noise, known=other) == pytest.approx(8, abs=0.1)


def test_nanogpts_names_and_turned_matrices_become_ours(make_model):
    model = make_model()
    theirs = {"lm_head.weight": model.wte.weight}
    for name, value in model.state_dict().items():
        turned = re.search(r"(c_attn|c_proj|c_fc)\.weight", name)
        theirs[f"transformer.{name}"] = value.t().clone() if turned else value
    copy = make_model(seed=1)
    copy.load_state_dict(as_our_state(theirs))
    tokens = torch.arange(20)[None]
    assert torch.equal(copy(tokens), model(tokens))


def test_the_cards_figures_are_those_of_the_model():
    config = json.loads((MODEL / "config.json").read_text())
    model, _ = load_model(MODEL)
    shape = re.search(r"\| shape \| the same \| (.*) \|", CARD)[1]
    assert f"{config['n_layer']} layers, {config['n_head']} heads, {config['n_embd']} wide" in shape
    assert f"window of {config['n_positions']} tokens" in shape
    assert f"{model.parameter_count():,} parameters, {config['torch_dtype']}" in shape
    assert f"{config['vocab_size']:,} byte pairs" in CARD


def test_the_folder_is_what_saving_writes_and_a_beginning(tmp_path):
    """Other programs read the files beside the weights; none may be of the first edition."""
    save_model(tmp_path, *load_model(MODEL, "cpu", "bfloat16"))
    described = json.loads((MODEL / "generation_config.json").read_text())
    assert described.pop("default_prompt") == read_default_prompt(MODEL)
    assert described == json.loads((tmp_path / "generation_config.json").read_text())
    for path in tmp_path.iterdir():
        if path.name != "generation_config.json":
            assert path.read_bytes() == (MODEL / path.name).read_bytes(), path.name


def test_its_preset_makes_a_model_of_its_shape():
    preset, config = PRESETS["storyteller"], load_model_shape(MODEL)[0]
    assert replace(preset.model, vocab_size=config.vocab_size) == config
    assert preset.tokenizer == f"learned:{config.vocab_size}"
    tokens = preset.train.steps * preset.train.batch_size * preset.train.block_size
    assert f"{preset.train.steps:,} steps" in CARD
    assert f"{tokens / 1e6:.1f} M tokens" in CARD


def test_what_it_begins_with_where_nobody_gives_a_prompt_is_a_sentence():
    """From the bare end of a text, one began "A Story-WHIT WON OF MY ALPTORITYLE:"."""
    model, tokenizer = load_model(MODEL, "cpu")
    begun = read_default_prompt(MODEL)
    sampling = Sampling(max_new_tokens=30, samples=8)
    texts = [begun] * sampling.samples
    for piece in generate_pieces(model, tokenizer, begun, sampling):
        texts[piece.sample] += piece.text
    assert all(map(begins_with_a_sentence, texts)), texts


def test_the_card_is_one_that_the_hub_reads():
    from huggingface_hub import ModelCard

    card = ModelCard(CARD)
    assert card.data.license == "mit"
    assert card.data.pipeline_tag == "text-generation"
    assert [int(seed) for seed in re.findall(r"^Seed (\d+):$", CARD, re.M)] == list(range(1, 21))
    assert all(opening in CARD for opening in STORY_OPENINGS)


def test_the_sample_text_is_small_clean_and_keeps_its_form():
    raw = (ROOT / "ui" / "assets" / "sample_text.txt").read_bytes()
    assert 6000 <= len(raw) <= 9000
    text = raw.decode("ascii")
    assert not re.search(r"[\t\r]| \n|\n{3}", text)
    _title, *entries = text.strip().split("\n\n")
    assert len(set(entries)) == len(entries) >= 25
    for entry in entries:
        assert re.match(r"[A-Z][a-z]+ the \d+(st|nd|rd|th)\. Wind .*\. Lamp lit at ", entry), entry
        assert entry.endswith("All's well, says the lamp.")
