"""From what the user asked for to what `train` takes: a model, a corpus, a config, a run folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from gpt2.errors import UserError
from gpt2.folder import empty_model, load_model_shape, load_weights
from gpt2.hub.resolve import resolve
from gpt2.model import GPT2, ModelConfig
from gpt2.text import Text, open_texts, read_documents
from gpt2.tokenizer import CharacterTokenizer, Tokenizer, gpt2_tokenizer, load_tokenizer
from train.config import PRESETS, TrainConfig, finetune_learning_rate, with_changes
from train.data import Corpus, build_corpus, fit_block, open_corpus
from train.distributed import World
from train.lora import add_lora
from train.run_folder import RunFolder
from train.vocabulary import learn_vocabulary


@dataclass(frozen=True)
class JobRequest:
    """A new run: either `model`, a name that `resolve` takes, is trained further, or `preset`
    begins one from scratch. `changes` are the fields of `TrainConfig` that the user set."""

    files: tuple[Path, ...]  # or folders, or patterns
    out: Path
    model: str | None = None
    preset: str | None = None
    column: str | None = None
    changes: tuple[tuple[str, Any], ...] = ()
    encoding: str | None = None


@dataclass(frozen=True)
class Job:
    """What `train` takes."""

    model: GPT2
    data: Corpus
    config: TrainConfig
    run: RunFolder
    notes: tuple[str, ...] = ()  # what the user should know before it starts


@dataclass(frozen=True)
class Start:
    """What a run begins from, opened once: a model that exists, or the shape of a new one."""

    tokenizer: Tokenizer
    shape: ModelConfig
    base: Path | None = None  # the model folder
    model: str | None = None  # its name
    preset: str | None = None


def new_job(request: JobRequest, world: World) -> Job:
    """Make the run folder, tokenize the text into it, build or load the model. Under torchrun the
    main rank writes; the others read what it wrote."""
    if world.is_main:
        write_run(request)
    world.barrier()
    return existing_job(request.out, world, ())


def existing_job(out: Path, world: World, changes: tuple[tuple[str, Any], ...]) -> Job:
    """Open a run folder to continue it; `changes` may extend its steps or set anything that does
    not alter what has been trained so far. They are the run's own from then on."""
    run = RunFolder.open(out)
    described = run.description()
    config = replace(TrainConfig(**described["train"]), **dict(changes))
    _refuse_changes(described["train"], config)
    if changes and world.is_main:
        run.describe(described | {"train": asdict(config)})
    tokenizer = load_tokenizer(run.tokens)
    model = build_model(described, config, world)
    return Job(model, open_corpus(run.tokens, tokenizer), config, run, tuple(described["notes"]))


def write_run(request: JobRequest) -> None:
    """Make the run folder and tokenize the text into it. On `UserError` nothing is left."""
    texts, notes = open_texts(request.files, request.column, request.encoding)
    changes = dict(request.changes)
    if request.model and not request.preset:
        start = start_from_model(request.model)
        config = with_changes(finetune_config(start.shape), changes)
    elif request.preset and not request.model and PRESETS[request.preset].model:
        config = with_changes(PRESETS[request.preset].train, changes)
        start = _start_from_scratch(request.preset, config, texts)
    else:
        raise UserError(
            "Give either --model NAME (train it further) or --preset NAME (from scratch)."
        )
    run = RunFolder.create(request.out)
    try:
        corpus = build_corpus(texts, start.tokenizer, run.tokens, config, notes)
        begin_run(run, start, config, corpus)
    except BaseException:
        shutil.rmtree(run.path)  # nothing has begun; the name stays free for the next try
        raise


def begin_run(run: RunFolder, start: Start, config: TrainConfig, corpus: Corpus) -> None:
    """Describe a run whose tokens are in its folder: from then on it can be opened."""
    start.tokenizer.save(run.tokens)
    config, note = fit_block(config, corpus, start.shape.n_positions)
    run.describe(
        {
            "model": start.model,
            "base": str(start.base.absolute()) if start.base else None,
            "preset": start.preset,
            "shape": asdict(replace(start.shape, dropout=config.dropout)),
            "train": asdict(config),
            "files": list(corpus.report.encodings),
            "notes": [note] if note else [],
        }
    )


def start_from_model(name: str) -> Start:
    """From a model that exists."""
    base = resolve(name)
    shape, tokenizer = load_model_shape(base)
    return Start(tokenizer, shape, base, model=name)


def finetune_config(shape: ModelConfig) -> TrainConfig:
    """How a trained model of this shape is trained further, at the rate that suits its size."""
    rate = finetune_learning_rate(empty_model(shape).parameter_count())
    return replace(PRESETS["finetune"].train, learning_rate=rate, final_learning_rate=rate / 10)


def _start_from_scratch(name: str, config: TrainConfig, texts: Sequence[Text]) -> Start:
    preset = PRESETS[name]
    tokenizer = _new_tokenizer(preset.tokenizer, texts)
    window = max(preset.model.n_positions, config.block_size)
    shape = replace(preset.model, vocab_size=tokenizer.vocab_size, n_positions=window)
    return Start(tokenizer, shape, preset=name)


def _new_tokenizer(kind: str, texts: Sequence[Text]) -> Tokenizer:
    if kind == "characters":
        characters: set[str] = set()
        for text in texts:
            for piece, _ in text.pieces():
                characters.update(piece)
        if not characters:
            raise UserError("The text is empty. Give more text.")
        return CharacterTokenizer(sorted(characters))
    if kind.startswith("learned:"):
        documents = (document for text in texts for document in read_documents(text))
        paragraphs = (part for document in documents for part in document.split("\n\n"))
        return learn_vocabulary(islice(paragraphs, 2_000_000), int(kind.removeprefix("learned:")))
    return gpt2_tokenizer()


def build_model(described: dict[str, Any], config: TrainConfig, world: World) -> GPT2:
    """The untrained or base model on its device, in float32, with the run's dropout and LoRA."""
    torch.manual_seed(config.seed)
    shape = ModelConfig(**described["shape"])
    if described["base"]:
        # The base may have been trained with another dropout: its weights, in the run's shape.
        base = load_weights(Path(described["base"]), shape, str(world.device), torch.float32)
        model = base.train()
    else:
        model = GPT2(shape).to(world.device)
    if config.lora_rank:
        add_lora(model, config)
    return model


# What may differ when a run is resumed: its end, and what only looks at it.
_CHANGEABLE = {
    "steps",
    "evaluate_every",
    "sample_every",
    "sample_prompt",
    "sample_tokens",
    "save_every",
    "keep",
    "patience",
    "compile",
    "gradient_checkpointing",
    "micro_batch_size",
}


def _refuse_changes(before: dict[str, Any], config: TrainConfig) -> None:
    for option in fields(TrainConfig):
        name = option.name
        if name not in _CHANGEABLE and getattr(config, name) != before[name]:
            raise UserError(
                f"{name} was {before[name]!r} when this run began and cannot change on --resume. "
                "Start a new run from its model/ folder instead."
            )
