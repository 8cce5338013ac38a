"""The model card, README.md of a model folder: what the model is, and what it is known to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpt2.files import write_text
from gpt2.folder import read_config
from gpt2.model import ModelConfig
from gpt2.tokenizer import is_character_model


@dataclass(frozen=True)
class Losses:
    """How well a model predicts a text it was not trained on."""

    data: str  # the name of that text, "my notes, the last tenth"
    loss: float | None = None  # nats per token
    perplexity: float | None = None
    bits_per_byte: float | None = None


@dataclass(frozen=True)
class CardSample:
    """One text that the model wrote, and what it was given."""

    prompt: str
    text: str  # the continuation


@dataclass(frozen=True)
class CardFacts:
    """What a card can say; anything unknown is left out. Texts are Markdown unless noted."""

    title: str  # plain
    base_model: str | None = None  # a Hub id, "openai-community/gpt2"
    license: str | None = None  # a Hub license id, "mit"; "other" needs the next two
    license_name: str | None = None
    license_link: str | None = None
    tags: Sequence[str] = ()  # besides gpt2 and text-generation
    description: str = ""  # a paragraph
    data: str = ""  # what it was trained on
    training: Mapping[str, object] = field(default_factory=dict)  # setting -> value
    losses: Losses | None = None
    samples: Sequence[CardSample] = ()  # plain
    memorization: str = ""  # what is known about the training text it repeats
    sha256: str | None = None  # of model.safetensors


def write_card(folder: str | Path, facts: CardFacts) -> Path:
    """Write README.md into a model folder, whose config and tokenizer it describes."""
    folder = Path(folder)
    config, by_characters = read_config(folder), is_character_model(folder)
    parts = [
        f"---\n{_metadata(facts)}\n---",
        f"# {_one_line(facts.title)}",
        facts.description.strip(),
        _shape_table(config, by_characters),
        "## Use",
        _CHARACTERS if by_characters else "",
        _USE,
        _section("Training data", facts.data),
        _section("Training", _table(("setting", "value"), facts.training.items())),
        _section("Evaluation", _describe_losses(facts.losses)),
        _section("Samples", "\n\n".join(_sample(sample) for sample in facts.samples)),
        _section("Memorization", facts.memorization),
        _section("License", _license(facts)),
        _section("Files", f"sha256 of model.safetensors: `{facts.sha256}`" if facts.sha256 else ""),
    ]
    path = folder / "README.md"
    write_text(path, "\n\n".join(part for part in parts if part) + "\n")
    return path


def _metadata(facts: CardFacts) -> str:
    """The front matter, made by the Hub's own library, which also writes `model-index`."""
    from huggingface_hub import EvalResult, ModelCardData

    losses = facts.losses or Losses(data="")
    measured = {
        "loss": losses.loss,
        "perplexity": losses.perplexity,
        "bits_per_byte": losses.bits_per_byte,
    }
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type="text",
            dataset_name=_one_line(losses.data),
            metric_type=name,
            metric_value=round(value, 6),
        )
        for name, value in measured.items()
        if value is not None
    ]
    data = ModelCardData(
        model_name=_one_line(facts.title),
        base_model=facts.base_model,
        library_name="transformers",
        pipeline_tag="text-generation",
        license=facts.license,
        license_name=facts.license_name,
        license_link=facts.license_link,
        tags=list(dict.fromkeys(["gpt2", "text-generation", *facts.tags])),
        eval_results=results or None,
    )
    return data.to_yaml()


def _shape_table(config: ModelConfig, by_characters: bool) -> str:
    kind = "characters" if by_characters else "byte pairs"
    rows = {
        "layers": config.n_layer,
        "width": config.n_embd,
        "heads": config.n_head,
        "context window, tokens": config.n_positions,
        "vocabulary": f"{config.vocab_size:,} {kind}",
    }
    return _table(("GPT-2 architecture", ""), rows.items())


_USE = """```python
from transformers import pipeline

generate = pipeline("text-generation", model="THIS_REPOSITORY_OR_FOLDER")
print(generate("Once upon a time", max_new_tokens=50)[0]["generated_text"])
```"""


_CHARACTERS = """This is a **character model**: one token is one character. Characters that are not
among its own (the list in `characters.json`) are left out."""


def _describe_losses(losses: Losses | None) -> str:
    if losses is None:
        return ""
    rows = {
        "loss, nats per token": losses.loss,
        "perplexity": losses.perplexity,
        "bits per byte": losses.bits_per_byte,
    }
    known = {name: f"{value:.4f}" for name, value in rows.items() if value is not None}
    return f"On {_one_line(losses.data)}:\n\n{_table(('measure', 'value'), known.items())}"


def _sample(sample: CardSample) -> str:
    """Prompt and continuation in a fence that nothing in them can close."""
    longest = max((len(run) for run in re.findall("`+", sample.prompt + sample.text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"Prompt: {_code(sample.prompt)}\n\n{fence}text\n{sample.prompt}{sample.text}\n{fence}"


def _license(facts: CardFacts) -> str:
    if facts.license_name and facts.license_link:
        return f"[{facts.license_name}]({facts.license_link})"
    return facts.license or "Not stated."


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text.strip()}" if text.strip() else ""


def _table(head: tuple[str, str], rows) -> str:
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows]
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *lines]) if lines else ""


def _cell(value: object) -> str:
    """What is not plain words, perhaps a visitor's, stands as code: neither HTML nor Markdown."""
    words = _one_line(str(value))
    shown = words if re.fullmatch(r"[\w .,:;+/%()-]*", words) else _code(words)
    return shown.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{_one_line(text).replace('`', chr(39))}`"


def _one_line(text: str) -> str:
    return " ".join(text.split())
