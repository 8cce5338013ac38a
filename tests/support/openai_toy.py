"""Toy checkpoints as OpenAI made theirs: by TensorFlow's own Saver, in files of the same names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# A vocabulary of 256 bytes, two merges and the end of text, in the release's form.
MERGES = [("t", "h"), ("th", "e")]
HPARAMS = {"n_vocab": 259, "n_ctx": 16, "n_embd": 24, "n_head": 3, "n_layer": 2}


def random_variables(hparams: dict[str, int] = HPARAMS, seed: int = 0) -> dict[str, np.ndarray]:
    """Every variable of a release with these hparams, by OpenAI's names and shapes, written out."""
    n, (vocab, ctx) = hparams["n_embd"], (hparams["n_vocab"], hparams["n_ctx"])
    shapes = {"model/wte": (vocab, n), "model/wpe": (ctx, n)}
    shapes |= {"model/ln_f/g": (n,), "model/ln_f/b": (n,)}
    for i in range(hparams["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            shapes[f"model/h{i}/{norm}/g"] = shapes[f"model/h{i}/{norm}/b"] = (n,)
        for name, n_in, n_out in [
            ("attn/c_attn", n, 3 * n),
            ("attn/c_proj", n, n),
            ("mlp/c_fc", n, 4 * n),
            ("mlp/c_proj", 4 * n, n),
        ]:
            shapes[f"model/h{i}/{name}/w"] = (1, n_in, n_out)
            shapes[f"model/h{i}/{name}/b"] = (n_out,)
    random = np.random.default_rng(seed)
    return {
        name: (0.3 * random.standard_normal(shape) + name.endswith("/g")).astype(np.float32)
        for name, shape in shapes.items()
    }


def write_release(
    directory: Path, variables: dict[str, np.ndarray], hparams: dict[str, int] = HPARAMS
) -> Path:
    """The seven files, the four of the checkpoint by TensorFlow itself."""
    # The requirements leave TensorFlow out where there is no wheel of tensorflow-cpu.
    tf = pytest.importorskip("tensorflow")

    directory.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = [
            tf.compat.v1.get_variable(name, initializer=tf.constant(array))
            for name, array in variables.items()
        ]
        session.run([variable.initializer for variable in made])
        tf.compat.v1.train.Saver(made).save(session, str(directory / "model.ckpt"))
    (directory / "hparams.json").write_text(json.dumps(hparams, indent=2) + "\n")
    (directory / "encoder.json").write_text(json.dumps(vocabulary()))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
    (directory / "vocab.bpe").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


def vocabulary() -> dict[str, int]:
    printing = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printing += range(ord("®"), ord("ÿ") + 1)
    others = [chr(256 + i) for i in range(256 - len(printing))]
    tokens = [*map(chr, printing), *others, *("".join(pair) for pair in MERGES), "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}
