"""Models that other programs' own code makes, converted, and compared with that code.

    pip install -r requirements-doors.txt
    python benchmarks/doors_in.py [--nanogpt DIR] [--mingpt DIR] [--llm-c DIR]

The directories are checkouts of github.com/karpathy/{nanoGPT,minGPT,llm.c}; LLMs-from-scratch and
KerasHub are packages. Each makes a small random model and saves it in its way; the largest
difference of a logit in float32 and float64, and how many of 64 greedy tokens are the same, are
printed, one JSON object a model.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from torch import Tensor, nn

from gpt2.folder import load_model
from gpt2.formats.foreign_model import Hints
from gpt2.formats.incoming import convert_foreign
from gpt2.generate import generate_tokens
from gpt2.sampling import Sampling
from gpt2.temporary import temp_folder

VOCABULARY, WINDOW, WIDTH, LAYERS, HEADS = 65, 80, 48, 2, 3
ALPHABET = [chr(0x30 + index) for index in range(VOCABULARY)]
GREEDY = Sampling(temperature=0, repetition_penalty=1, top_k=0, top_p=1, max_new_tokens=64)


@dataclass(frozen=True)
class Peer:
    """A model of another program: what it computes, and what it saved."""

    name: str
    logits: Callable[[Tensor], Tensor]  # (B, T) ids -> (B, T, V)
    source: Path
    hints: Hints
    module: nn.Module | None  # None where it has float32 only


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("nanogpt", "mingpt", "llm-c"):
        parser.add_argument(f"--{name}", type=Path, metavar="DIR")
    options = parser.parse_args()
    with temp_folder() as scratch:
        table = dict(enumerate(ALPHABET))
        (scratch / "meta.pkl").write_bytes(pickle.dumps({"itos": table}))
        for peer in peers(options, scratch):
            print(json.dumps(compare(peer, scratch / f"{peer.name}-out")), flush=True)


def peers(options: argparse.Namespace, scratch: Path) -> Iterator[Peer]:
    if options.nanogpt:
        yield from nanogpt(options.nanogpt, scratch)
    if options.mingpt:
        yield from mingpt(options.mingpt, scratch)
    if options.llm_c:
        yield from llm_c(options.llm_c, scratch)
    yield from from_scratch(scratch)
    yield from keras_hub(scratch)


@torch.no_grad()
def compare(peer: Peer, out: Path) -> dict[str, object]:
    """Convert what was saved; the differences."""
    convert_foreign(peer.source, out, hints=peer.hints)
    found: dict[str, object] = {"peer": peer.name}
    tokens = torch.arange(WINDOW)[None] * 7 % VOCABULARY
    for dtype in (torch.float32, torch.float64) if peer.module else (torch.float32,):
        if peer.module:
            peer.module.to(dtype)
        ours, _ = load_model(out, device="cpu", dtype=dtype)
        expected = peer.logits(tokens)
        difference = (ours(tokens)[..., : expected.shape[-1]] - expected).abs().max()
        found[f"difference, {str(dtype)[6:]}"] = float(difference)
    found["largest logit"] = round(float(expected.abs().max()), 2)
    written = [1, 2, 3]
    while len(written) < 67:
        written.append(int(peer.logits(torch.tensor([written]))[0, -1].argmax()))
    again = list(generate_tokens(ours, [1, 2, 3], GREEDY))
    same = next((i for i, (a, b) in enumerate(zip(again, written[3:])) if a != b), 64)
    return {**found, "same greedy tokens": same}


def nanogpt(place: Path, scratch: Path) -> Iterator[Peer]:
    theirs = load_module(place / "model.py")
    for bias, vocabulary in ((True, VOCABULARY), (False, 50304)):
        args = {"n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH, "block_size": WINDOW,
                "bias": bias, "vocab_size": vocabulary, "dropout": 0.0}  # fmt: skip
        model = randomized(theirs.GPT(theirs.GPTConfig(**args)))
        folder = scratch / f"nanogpt-{vocabulary}"
        folder.mkdir()
        state = {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}
        optimizer = torch.optim.AdamW(model.parameters()).state_dict()
        content = {"model": state, "optimizer": optimizer, "model_args": args, "iter_num": 1}
        torch.save(content, folder / "ckpt.pt")
        hints = Hints(tokenizer=scratch if vocabulary == VOCABULARY else None)
        yield Peer(folder.name, lambda x, m=model: m(x, x)[0], folder, hints, model)


def mingpt(place: Path, scratch: Path) -> Iterator[Peer]:
    sys.path.insert(0, str(place))
    from mingpt.model import GPT

    config = GPT.get_default_config()
    config.model_type, config.vocab_size, config.block_size = "gpt-nano", VOCABULARY, WINDOW
    model = randomized(GPT(config))
    path = scratch / "mingpt.pt"
    torch.save(model.state_dict(), path)
    hints = Hints(heads=3, tokenizer=scratch)
    yield Peer("mingpt", lambda x: model(x)[0], path, hints, model)


def llm_c(place: Path, scratch: Path) -> Iterator[Peer]:
    theirs = load_module(place / "train_gpt2.py")
    shape = {"block_size": WINDOW, "vocab_size": 50257, "n_layer": LAYERS, "n_head": HEADS}
    model = randomized(theirs.GPT(theirs.GPTConfig(**shape, n_embd=WIDTH)))
    for dtype in ("float32", "bfloat16"):
        path = scratch / f"llm.c-{dtype}.bin"
        theirs.write_model(model.float(), str(path), dtype)
        model.to(getattr(torch, dtype)).float()
        yield Peer(path.stem, lambda x: model(x, x)[0], path, Hints(), model)


def from_scratch(scratch: Path) -> Iterator[Peer]:
    from llms_from_scratch.ch04 import GPTModel

    for bias in (True, False):
        config = {
            "vocab_size": VOCABULARY, "context_length": WINDOW, "emb_dim": WIDTH,
            "n_heads": HEADS, "n_layers": LAYERS, "drop_rate": 0.0, "qkv_bias": bias,
        }  # fmt: skip
        model = randomized(GPTModel(config))
        path = scratch / f"from-scratch-{bias}.pth"
        torch.save(model.state_dict(), path)
        yield Peer(path.stem, model, path, Hints(heads=HEADS, tokenizer=scratch), model)


def keras_hub(scratch: Path) -> Iterator[Peer]:
    import keras_hub
    import numpy as np

    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=VOCABULARY, num_layers=LAYERS, num_heads=HEADS, hidden_dim=WIDTH,
        intermediate_dim=100, max_sequence_length=WINDOW,
    )  # fmt: skip
    choose = np.random.default_rng(0)
    for weight in backbone.weights:
        weight.assign(choose.normal(0, 0.2, weight.shape) + ("gamma" in weight.path))
    backbone.save_to_preset(str(scratch / "keras-hub"))

    def logits(tokens: Tensor) -> Tensor:
        hidden = backbone({"token_ids": tokens, "padding_mask": torch.ones_like(tokens)})
        return backbone.token_embedding(hidden, reverse=True).detach().cpu()

    yield Peer("keras-hub", logits, scratch / "keras-hub", Hints(tokenizer=scratch), None)


def randomized(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.2, generator=generator)
            if name.endswith(("scale", "ln_1.weight", "ln_2.weight", "ln_f.weight")):
                parameter.add_(1)
    return model.eval()


def load_module(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
