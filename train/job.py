"""From what the user asked for to what `train` takes: a model, a corpus, a config, a run folder."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from gpt2.errors import UserError
from gpt2.folder import empty_model, load_model, read_config
from gpt2.hub.resolve import resolve
from gpt2.model import GPT2, ModelConfig
from gpt2.text import read_documents, read_pieces
from gpt2.tokenizer import CharacterTokenizer, Tokenizer, gpt2_tokenizer, load_tokenizer
from train.config import PRESETS, Preset, TrainConfig, finetune_learning_rate
from train.data import Corpus, build_corpus, fit_block, open_corpus
from train.distributed import World
from train.lora import add_lora
from train.run_folder import RunFolder
from train.vocabulary import learn_vocabulary


@dataclass(frozen=True)
class Request:
    """A new run: either `model`, a name that `resolve` takes, is trained further, or `preset`
    begins one from scratch. `changes` are the fields of `TrainConfig` that the user set."""

    files: tuple[Path, ...]
    out: Path
    model: str | None = None
    preset: str | None = None
    column: str | None = None
    changes: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Job:
    """What `train` takes."""

    model: GPT2
    data: Corpus
    config: TrainConfig
    run: RunFolder
    notes: tuple[str, ...] = ()  # what the user should know before it starts


def new_job(request: Request, world: World) -> Job:
    """Make the run folder, tokenize the text into it, build or load the model. Under torchrun the
    main rank writes; the others read what it wrote."""
    if world.is_main:
        write_run(request)
    world.barrier()
    return existing_job(request.out, world, ())


def existing_job(out: Path, world: World, changes: tuple[tuple[str, Any], ...]) -> Job:
    """Open a run folder to go on; `changes` may extend its steps or set anything that does not
    alter what has been trained so far. They are the run's own from then on."""
    run = RunFolder.open(out)
    described = run.description()
    config = replace(TrainConfig(**described["train"]), **dict(changes))
    _refuse_changes(described["train"], config)
    if changes and world.is_main:
        run.describe(described | {"train": asdict(config)})
    tokenizer = load_tokenizer(run.tokens)
    model = build_model(described, config, world)
    return Job(model, open_corpus(run.tokens, tokenizer), config, run, tuple(described["notes"]))


def write_run(request: Request) -> None:
    """Make the run folder and tokenize the text into it. On `UserError` nothing is left."""
    for path in request.files:
        if not path.is_file():
            raise UserError(f"There is no file {path}.")
    base = None
    if request.model and not request.preset:
        base = resolve(request.model)
        tokenizer, shape, config = _further(base, request)
    elif request.preset and not request.model and PRESETS[request.preset].model:
        tokenizer, shape, config = _from_scratch(PRESETS[request.preset], request)
    else:
        raise UserError(
            "Give either --model NAME (train it further) or --preset NAME (from scratch)."
        )
    run = RunFolder.create(request.out)
    try:
        corpus = build_corpus(request.files, tokenizer, run.tokens, config, request.column)
        tokenizer.save(run.tokens)
        config, note = fit_block(config, corpus, shape.n_positions)
    except BaseException:
        shutil.rmtree(run.path)  # nothing has begun; the name stays free for the next try
        raise
    run.describe(
        {
            "model": request.model,
            "base": str(base.absolute()) if base else None,
            "preset": request.preset,
            "shape": asdict(replace(shape, dropout=config.dropout)),
            "train": asdict(config),
            "files": [path.name for path in request.files],
            "notes": [note] if note else [],
        }
    )


def _further(base: Path, request: Request) -> tuple[Tokenizer, ModelConfig, TrainConfig]:
    """A model that exists, at the rate that suits its size unless the user chose one."""
    shape = read_config(base)
    return load_tokenizer(base), shape, replace(finetune_config(shape), **dict(request.changes))


def finetune_config(shape: ModelConfig) -> TrainConfig:
    """How a trained model of this shape is trained further, unless the user says otherwise."""
    rate = finetune_learning_rate(empty_model(shape).parameter_count())
    return replace(PRESETS["finetune"].train, learning_rate=rate, final_learning_rate=rate / 10)


def _from_scratch(preset: Preset, request: Request) -> tuple[Tokenizer, ModelConfig, TrainConfig]:
    config = replace(preset.train, **dict(request.changes))
    tokenizer = _new_tokenizer(preset.tokenizer, request)
    window = max(preset.model.n_positions, config.block_size)
    shape = replace(preset.model, vocab_size=tokenizer.vocab_size, n_positions=window)
    return tokenizer, shape, config


def _new_tokenizer(kind: str, request: Request) -> Tokenizer:
    if kind == "characters":
        characters: set[str] = set()
        for path in request.files:
            for piece, _ in read_pieces(path, request.column):
                characters.update(piece)
        if not characters:
            raise UserError("The text is empty. Give more text.")
        return CharacterTokenizer(sorted(characters))
    if kind.startswith("learned:"):
        documents = (
            text for path in request.files for text in read_documents(path, request.column)
        )
        paragraphs = (part for text in documents for part in text.split("\n\n"))
        return learn_vocabulary(islice(paragraphs, 2_000_000), int(kind.removeprefix("learned:")))
    return gpt2_tokenizer()


def build_model(described: dict[str, Any], config: TrainConfig, world: World) -> GPT2:
    """The untrained or base model on its device, in float32, with the run's dropout and LoRA."""
    torch.manual_seed(config.seed)
    shape = ModelConfig(**described["shape"])
    if described["base"]:
        base, _ = load_model(described["base"], str(world.device), torch.float32)
        model = empty_model(shape)
        model.load_state_dict(base.state_dict(), assign=True)
    else:
        model = GPT2(shape).to(world.device)
    if config.lora_rank:
        add_lora(model, config)
    return model


# What may differ when a run goes on: its end, and what only looks at it.
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
