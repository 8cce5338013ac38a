"""One rank of the tests in test_distributed.py: trains a toy in float64 and writes its weights.

torchrun ... tests/support/distributed_worker.py OUT ddp|shard|hungry

hungry: as ddp, but the last rank has no memory for its third step.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import torch
from safetensors.torch import save_file

from gpt2.model import GPT2, ModelConfig
from gpt2.text import TextFile
from gpt2.tokenizer import CharacterTokenizer
from train.config import TrainConfig
from train.data import build_corpus, open_corpus
from train.distributed import join
from train.run_folder import RunFolder
from train.trainer import train

TEXT = "pack my box with five dozen liquor jugs. " * 40


def config_of(kind: str) -> TrainConfig:
    return TrainConfig(
        steps=6,
        batch_size=7,  # unequal shares for two ranks
        micro_batch_size=2,
        block_size=16,
        learning_rate=1e-2,
        final_learning_rate=1e-3,
        warmup_steps=2,
        evaluate_every=3,
        sample_every=3,
        sample_tokens=5,
        save_every=3,
        precision="float32",
        shard=kind == "shard",
    )


def starve(model: GPT2) -> None:
    plain, calls = model.hidden, count()

    def hungry(tokens, cache=None):
        if model.training and next(calls) > 4:
            raise torch.OutOfMemoryError("no memory on this rank")
        return plain(tokens, cache)

    model.hidden = hungry


def main(out: Path, kind: str) -> None:
    torch.set_num_threads(1)
    config = config_of(kind)
    tokenizer = CharacterTokenizer.from_text(TEXT)
    with join() as world:
        tokens = out / "tokens"
        if world.is_main and not tokens.exists():
            out.mkdir(parents=True, exist_ok=True)
            (out / "text.txt").write_text(TEXT)
            build_corpus([TextFile(out / "text.txt")], tokenizer, tokens, config)
            RunFolder.create(out / "run")
        world.barrier()
        torch.manual_seed(1)
        shape = ModelConfig(tokenizer.vocab_size, n_positions=16, n_embd=16, n_layer=2, n_head=2)
        model = GPT2(shape).double()
        seen = []
        data, run = open_corpus(tokens, tokenizer), RunFolder(out / "run")
        if kind == "hungry" and not world.is_main:
            starve(model)
        stop_at = 4 if sys.argv[3:] == ["stop"] else 99
        for progress in train(model, data, config, run, world, lambda: len(seen) > stop_at):
            seen.append(progress)
        if world.is_main:
            last = run.checkpoints.newest()
            losses = torch.tensor([p.loss or 0.0 for p in run.progress()], dtype=torch.float64)
            save_file(last.model | {"losses": losses}, out / "result.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
