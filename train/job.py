"""From what the user asked for to what `train` takes: a model, a corpus, a config, a run folder."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
from train.config import (
    PRESETS,
    TrainConfig,
    begin_with,
    finetune_learning_rate,
    with_changes,
)
from train.data import Corpus, Windows, build_corpus, fit_block, open_corpus
from train.distributed import World
from train.lora import add_lora
from train.optimizer import learning_rate
from train.own_shape import OwnShape
from train.run_folder import RunDescription, RunFolder
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
    epochs: float | None = None  # times through the text, instead of `steps`
    shape: OwnShape = field(default_factory=OwnShape)  # of a new model


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


def existing_job(
    out: Path, world: World, changes: tuple[tuple[str, Any], ...], epochs: float | None = None
) -> Job:
    """Open a run folder to continue it; `changes` may extend its steps (`epochs`: to so many times
    through its text) or set anything that does not alter what has been trained so far. They are the
    run's own from then on."""
    run = RunFolder.open(out)
    described = run.description()
    corpus = open_corpus(run.tokens, load_tokenizer(run.tokens))
    config, notes = described.train, []
    if epochs or changes:
        before = config
        given = dict(changes) | (_steps_of(epochs, before, corpus, notes) if epochs else {})
        config = _resumed(before, given, run)
        notes += stretch_notes(before, config, run.checkpoints.last_step)
    described = replace(described, train=config, notes=(*described.notes, *notes))
    if (epochs or changes) and world.is_main:
        run.describe(described)
    return Job(build_model(described, world), corpus, config, run, described.notes)


def stretch_notes(before: TrainConfig, after: TrainConfig, step: int) -> list[str]:
    """What other steps do to the learning rate from `step`, the last that is done, on."""
    old, new = learning_rate(before, step), learning_rate(after, step)
    if before.steps == after.steps or old == new:
        return []
    return [
        f"At step {step} the end moved from step {before.steps:,} to {after.steps:,}: the schedule "
        f"is stretched, so the learning rate there is {new:.3g} instead of {old:.3g}, and reaches "
        f"{after.final_learning_rate:.3g} at the new end."
    ]


def _steps_of(
    epochs: float, config: TrainConfig, corpus: Corpus, notes: list[str]
) -> dict[str, int]:
    """The steps of so many times through the text, as a change of a config; and a word about it."""
    windows = Windows(corpus.train, config).per_epoch
    steps = max(1, math.ceil(epochs * windows / config.batch_size))
    notes.append(f"{epochs:g} times through {windows:,} windows are {steps:,} steps.")
    return {"steps": steps}


def write_run(request: JobRequest) -> None:
    """Make the run folder and tokenize the text into it. On `UserError` nothing is left."""
    texts, notes = open_texts(request.files, request.column, request.encoding)
    changes = dict(request.changes)
    if request.model and not request.preset:
        if request.shape != OwnShape():
            raise UserError("A model that exists has its shape: choose one with --preset only.")
        start = start_from_model(request.model)
        config = begin_with(finetune_config(start.shape), changes)
    elif request.preset and not request.model and PRESETS[request.preset].model:
        config = _scratch_config(request, changes)
        start = _start_from_scratch(request, config, texts)
    else:
        raise UserError(
            "Give either --model NAME (train it further) or --preset NAME (from scratch)."
        )
    run = RunFolder.create(request.out)
    try:
        corpus = build_corpus(texts, start.tokenizer, run.tokens, config, notes)
        begun: list[str] = []
        if request.epochs:
            fitted, _ = fit_block(config, corpus, start.shape.n_positions)
            steps = _steps_of(request.epochs, fitted, corpus, begun)
            config = begin_with(config, changes | steps)
        begin_run(run, start, config, corpus, begun)
    except BaseException:
        shutil.rmtree(run.path)  # nothing has begun; the name stays free for the next try
        raise


def begin_run(
    run: RunFolder, start: Start, config: TrainConfig, corpus: Corpus, notes: Sequence[str] = ()
) -> None:
    """Describe a run whose tokens are in its folder: from then on it can be opened. `notes` are
    what its owner should know about it."""
    start.tokenizer.save(run.tokens)
    config, note = fit_block(config, corpus, start.shape.n_positions)
    untrained = start.base is None and not note and config.block_size < start.shape.n_positions
    if untrained:
        note = (
            f"The model's window is {start.shape.n_positions} tokens, and in blocks of "
            f"{config.block_size} it never learns its later positions."
        )
    run.describe(
        RunDescription(
            base=str(start.base.absolute()) if start.base else None,
            model=start.model,
            preset=start.preset,
            files=tuple(corpus.report.encodings),
            notes=(*notes, *([note] if note else [])),
            shape=replace(start.shape, dropout=config.dropout),
            train=config,
        )
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


def _scratch_config(request: JobRequest, changes: dict[str, Any]) -> TrainConfig:
    """The preset's, with blocks as long as a context of one's own."""
    config, context = PRESETS[request.preset].train, request.shape.context
    if context:
        config = replace(config, block_size=context)
    config = begin_with(config, changes)
    if context and config.block_size > context:
        raise UserError(f"block_size {config.block_size} does not fit into a context of {context}.")
    return config


def _start_from_scratch(request: JobRequest, config: TrainConfig, texts: Sequence[Text]) -> Start:
    preset = PRESETS[request.preset]
    shape = request.shape.of(preset.model)  # before the text is read
    tokenizer = _new_tokenizer(preset.tokenizer, texts)
    window = max(shape.n_positions, config.block_size)
    shape = replace(shape, vocab_size=tokenizer.vocab_size, n_positions=window)
    return Start(tokenizer, shape, preset=request.preset)


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


def build_model(described: RunDescription, world: World) -> GPT2:
    """The untrained or base model on its device, in float32, with the run's dropout and LoRA."""
    shape, config = described.shape, described.train
    torch.manual_seed(config.seed)
    if described.base:
        # The base may have been trained with another dropout: its weights, in the run's shape.
        base = load_weights(Path(described.base), shape, str(world.device), torch.float32)
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


def _resumed(before: TrainConfig, changes: dict[str, Any], run: RunFolder) -> TrainConfig:
    """The config with what may change; `UserError` for what may not, and for too few steps."""
    changed = replace(before, **changes)
    for name in changes:
        if name not in _CHANGEABLE and getattr(changed, name) != getattr(before, name):
            raise UserError(
                f"{name} was {getattr(before, name)!r} when this run began and cannot change on "
                "--resume. Start a new run from its model/ folder instead."
            )
    done = run.checkpoints.last_step
    if changed.steps < done and "steps" in changes:
        raise UserError(f"{changed.steps} steps: this run has done {done} already. Give more.")
    return with_changes(before, changes)
