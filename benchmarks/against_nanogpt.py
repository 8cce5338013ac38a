"""The storyteller's training against nanoGPT's: the same shape, tokens, batches and steps.

Called by `benchmarks/storyteller.py compare`. What differs is what each project provides: the
initialization, the optimizer and its settings. Both see the windows of our `Windows` in the same
order, compute in the same precision, and go through a whole schedule of warmup and decay.
The trained nanoGPT is copied into our model, value by value, so that the same code scores both.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gpt2.hub.resolve import resolve
from gpt2.model import GPT2, ModelConfig
from gpt2.score import Measure, Score, score_texts
from gpt2.temporary import Temporary, temp_folder, temp_part
from gpt2.text import TextFile
from gpt2.tokenizer import load_tokenizer
from train.compute import autocast
from train.config import PRESETS, TrainConfig, begin_with
from train.data import Corpus, Windows, build_corpus, open_corpus
from train.run_folder import RunFolder
from train.trainer import train

PRESET = PRESETS["storyteller"]
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def compare(text: Path, valid: Path, steps: int, nanogpt: Path | None, rate: float | None) -> Score:
    """Train one contender, nanoGPT if its folder is given, and score it on `valid`."""
    corpus = story_corpus(text, "storyteller")
    changes = {"steps": steps, "evaluate_every": 0, "sample_every": 0, "save_every": 0}
    if rate is not None:
        changes["learning_rate"] = rate
    config = begin_with(PRESET.train, changes)
    shape = replace(PRESET.model, vocab_size=corpus.tokenizer.vocab_size)
    torch.manual_seed(config.seed)
    started = time.perf_counter()
    if nanogpt is None:
        model = _ours(GPT2(shape), corpus, config)
    else:
        model = _nanogpt(nanogpt, shape, corpus, config, 6e-4 if rate is None else rate)
    print(f"{(time.perf_counter() - started) / steps:.2f} s per step", file=sys.stderr)
    measure = Measure().settled(model, overlap=True)
    return score_texts(model.eval(), corpus.tokenizer, [TextFile(valid)], measure)


def story_corpus(text: Path, name: str) -> Corpus:
    """All of `text` in the tokens of a model, kept with other temporary files: a folder for each
    text and each vocabulary."""
    tokenizer = load_tokenizer(resolve(name))
    vocabulary = hashlib.sha256(repr(tokenizer.merges).encode()).hexdigest()[:12]
    kept = f"storyteller-corpus-{text.stat().st_size}-{vocabulary}"
    folder = temp_part(Temporary.SCRATCH) / kept
    if (folder / "report.json").exists():
        return open_corpus(folder, tokenizer)
    everything = replace(PRESET.train, validation_share=0.0)
    return build_corpus([TextFile(text)], tokenizer, folder, everything)


def _ours(model: GPT2, corpus: Corpus, config: TrainConfig) -> GPT2:
    with temp_folder() as folder:
        run = RunFolder.create(folder / "run")
        for progress in train(model, corpus, config, run):
            _tell(progress.step, progress.loss)
    return model


def _nanogpt(
    folder: Path, shape: ModelConfig, corpus: Corpus, config: TrainConfig, rate: float
) -> GPT2:
    """The steps of its train.py: AdamW 0.9, 0.95, decay 0.1, clip 1.0, cosine to a tenth."""
    sys.path.insert(0, str(folder))
    from model import GPT, GPTConfig

    sizes = {name: getattr(shape, name) for name in ("vocab_size", "n_layer", "n_head", "n_embd")}
    model = GPT(GPTConfig(block_size=shape.n_positions, bias=True, dropout=0.0, **sizes))
    optimizer = model.configure_optimizers(0.1, rate, (0.9, 0.95), "cpu")
    precision = autocast(config, torch.device("cpu"))
    for step, rows in enumerate(_batches(corpus, config), start=1):
        for group in optimizer.param_groups:
            group["lr"] = _nanogpt_rate(step - 1, rate, config.warmup_steps, config.steps)
        with precision:
            _, loss = model(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _tell(step, loss.item())
    ours = GPT2(shape)
    ours.load_state_dict(as_our_state(model.state_dict()))
    return ours


def _batches(corpus: Corpus, config: TrainConfig) -> Iterator[Tensor]:
    windows = Windows(corpus.train, config)
    return (windows.batch(step) for step in range(config.steps))


def _nanogpt_rate(step: int, peak: float, warmup: int, steps: int) -> float:
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    share = (step - warmup) / (steps - warmup)
    return peak / 10 + 0.5 * (1 + math.cos(math.pi * share)) * (peak - peak / 10)


def as_our_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """nanoGPT's parameters under our names: (out, in) matrices transposed, no tied head."""
    ours = {}
    for name, value in state.items():
        if name != "lm_head.weight":
            turned = value.t() if name.endswith(TRANSPOSED) else value
            ours[name.removeprefix("transformer.")] = turned
    return ours


def _tell(step: int, loss: float | None) -> None:
    if loss is not None and step % 20 == 0:
        print(f"step {step}, loss {loss:.4f}", file=sys.stderr, flush=True)
