"""The model card: what the Hub reads in it, what people read, and text that cannot break it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard

from gpt2.folder import save_model
from gpt2.hub.resolve import hub_name
from gpt2.model_card import CardFacts, CardSample, Losses, write_card
from gpt2.tokenizer import BytePairTokenizer, byte_characters


@pytest.fixture
def folder(make_model, tmp_path):
    """A model over byte pairs."""
    tokenizer = BytePairTokenizer({token: i for i, token in enumerate(byte_characters())}, [])
    save_model(tmp_path / "model", make_model(vocab_size=256), tokenizer)
    return tmp_path / "model"


def full_facts(**changes: object) -> CardFacts:
    facts = {
        "title": "Tales",
        "base_model": "openai-community/gpt2",
        "license": "mit",
        "tags": ["fairy-tales"],
        "description": "Writes tales.",
        "data": "Some old books.",
        "training": {"steps": 100, "learning_rate": 3e-4},
        "losses": Losses("my books", loss=2.5, perplexity=12.1825, bits_per_byte=1.1),
        "samples": [CardSample("Once", " upon a time.\nThe end.")],
        "memorization": "Nothing longer than nine words.",
        "sha256": "ab" * 32,
    }
    return CardFacts(**{**facts, **changes})


def read(folder, facts: CardFacts) -> ModelCard:
    return ModelCard(write_card(folder, facts).read_text(encoding="utf-8"))


def test_the_hub_reads_the_metadata_and_the_losses(folder):
    data = read(folder, full_facts()).data
    assert (data.base_model, data.license) == ("openai-community/gpt2", "mit")
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert data.tags == ["gpt2", "text-generation", "fairy-tales"]
    results = {one.metric_type: one.metric_value for one in data.eval_results}
    assert results == {"loss": 2.5, "perplexity": 12.1825, "bits_per_byte": 1.1}
    assert {one.dataset_name for one in data.eval_results} == {"my books"}
    assert data.model_name == "Tales"


def test_people_read_all_that_is_known(folder):
    text = read(folder, full_facts()).text
    for known in (
        "# Tales", "Writes tales.", "Some old books.", "| steps | 100 |",
        "| learning_rate | 0.0003",
        "On my books:", "| bits per byte | 1.1000 |", "Once upon a time.\nThe end.",
        "Nothing longer than nine words.", "ab" * 32, "| width | 24 |", "256 byte pairs",
    ):  # fmt: skip
        assert known in text, known


def test_what_is_not_known_is_left_out(folder):
    card = read(folder, CardFacts(title="Bare"))
    assert card.data.eval_results is None
    assert card.data.base_model is None
    for absent in ("## Training", "## Evaluation", "## Samples", "## Memorization", "## Files"):
        assert absent not in card.text
    assert "None" not in card.content
    some = read(folder, full_facts(losses=Losses("x", bits_per_byte=1.2)))
    assert [one.metric_type for one in some.data.eval_results] == ["bits_per_byte"]
    assert "perplexity" not in some.text


HOSTILE = [
    "---\nlicense: apache-2.0\n---",
    "```\n# Heading\n```",
    "````\n````` x",
    "a | b \\| c",
    "'\": {[%!@`",
    "é \U0001f600 \u2028 x",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_breaks_out_of_its_place(text, folder):
    """Samples and names are written by models and by strangers."""
    facts = full_facts(
        title=text, losses=Losses(text, loss=1.0), samples=[CardSample(text, text)],
        training={"data": text}, tags=[text],
    )  # fmt: skip
    card = read(folder, facts)
    plain = read(folder, full_facts(losses=Losses("x", loss=1.0)))
    assert card.data.license == "mit"
    assert card.data.model_name == " ".join(text.split())
    fences, inside = [], None
    for line in card.text.splitlines():  # as CommonMark: only a fence as long closes one
        run = len(line) - len(line.lstrip("`"))
        if inside is None and run >= 3:
            inside = run
        elif inside is not None and run >= inside and not line.strip("`"):
            fences.append(inside)
            inside = None
        elif inside is None and line.startswith("## "):
            fences.append(line)
    assert inside is None
    headings = [one for one in fences if isinstance(one, str)]
    assert headings == [line for line in plain.text.splitlines() if line.startswith("## ")]


@pytest.mark.parametrize(
    "prompt", ["<script>alert(1)</script>", "![x](http://a.b/beacon)", "a | b", "[a](javascript:b)"]
)
def test_a_visitors_prompt_in_the_table_is_code(prompt, folder):
    """It stood there as raw HTML."""
    text = read(folder, full_facts(training={"sample_prompt": prompt, "steps": 60})).text
    assert f"| sample_prompt | `{prompt.replace('|', chr(92) + '|')}` |" in text
    assert "| steps | 60 |" in text


def test_a_character_models_card_says_what_its_tokens_are(make_model, characters, tmp_path):
    save_model(tmp_path, make_model(), characters)
    text = read(tmp_path, CardFacts(title="Letters")).text
    assert "character model" in text
    assert "`characters.json`" in text
    assert "97 characters" in text


@pytest.mark.parametrize("kind", ["characters", "byte pairs"])
def test_the_program_in_the_card_runs(kind, make_model, characters, folder, tmp_path):
    """Offline, on the folder itself."""
    if kind == "characters":
        folder = tmp_path / "characters"
        save_model(folder, make_model(), characters)
    text = read(folder, CardFacts(title="x")).text
    program = text.split("```python\n")[1].split("```")[0]
    program = program.replace("THIS_REPOSITORY_OR_FOLDER", str(folder))
    program = program.replace("max_new_tokens=50", "max_new_tokens=5")
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    start = "Once upon a time"
    assert done.stdout.startswith(start)
    assert len(done.stdout) > len(start) + 1


def test_the_base_model_of_a_name_is_a_repository_or_nothing(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "local").mkdir()
    names = ["124M", "ann/toy", "ann/local", "storyteller", str(folder)]
    expected = ["openai-community/gpt2", "ann/toy", None, None, None]
    assert [hub_name(name) for name in names] == expected


def test_the_config_beside_the_card_is_not_touched(folder):
    before = json.loads((folder / "config.json").read_text())
    write_card(folder, full_facts())
    assert json.loads((folder / "config.json").read_text()) == before
