"""One measure, one value: a run, `train evaluate` and `gpt2 score` say the same of the same text.

A run once reported 1.04 where `evaluate` said 1.64 of the same documents: it had joined them.
"""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from gpt2.__main__ import main as gpt2_main
from gpt2.tokenizer import load_tokenizer
from train.__main__ import main as train_main

WORDS = ["miller", "swan", "river", "door", "fog", "bread", "lamp", "king", "né"]
FAST = [
    "--steps", "6", "--batch-size", "4", "--micro-batch-size", "4", "--block-size", "24",
    "--evaluate-every", "3", "--sample-every", "0", "--learning-rate", "0.003",
]  # fmt: skip


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """A file of sixty short documents."""
    choose = random.Random(2)
    lines = [" ".join(choose.choices(WORDS, k=choose.randint(2, 9))) + ".\n" for _ in range(60)]
    file = tmp_path_factory.mktemp("text") / "documents.txt"
    file.write_text("<|endoftext|>\n".join(lines), encoding="utf-8")
    return file


def held_out_file(run):
    """The validation documents of a run as a text file."""
    tokenizer = load_tokenizer(run / "tokens")
    ids = np.fromfile(run / "tokens" / "valid.bin", dtype=np.uint16).tolist()
    text = tokenizer.decode(ids)
    assert ids
    file = run.parent / "held-out.txt"
    file.write_text(text.replace("<|endoftext|>", "<|endoftext|>\n"), encoding="utf-8")
    return file, len(ids), len(text.replace("<|endoftext|>", "").encode())


@pytest.mark.parametrize(
    ("begin", "more", "dtype"),
    [
        ("bytes", ["--split", "documents"], "float32"),
        ("bytes", ["--split", "documents"], "bfloat16"),
        ("bytes", ["--split", "documents", "--lora-rank", "2"], "bfloat16"),
        ("characters", ["--validation-share", "0.2"], "float32"),
    ],
    ids=["bytes", "bfloat16", "lora", "characters"],
)
def test_a_run_and_both_commands_agree(begin, more, dtype, base, documents, tmp_path, call_here):
    source = {"bytes": ["--model", str(base)], "characters": ["--preset", "shakespeare-char-cpu"]}
    run = tmp_path / "run"
    where = ["--data", str(documents), "--out", str(run), "--validation-share", "0.3"]
    settings = [*source[begin], *where, *FAST, *more, "--precision", dtype]
    status, out, error = call_here(train_main, "run", *settings)
    assert status == 0, error
    assert f"(window 24, stride 24, {dtype})" in out
    lines = (run / "progress.jsonl").read_text().splitlines()
    losses = [json.loads(line)["validation_loss"] for line in lines]
    reported = losses[-1]
    assert reported == min(filter(None, losses)), "the exported model is another"

    file, tokens, size = held_out_file(run)
    how = ["--model", str(run / "model"), "--dtype", dtype, "--json"]
    for name, program, given in (
        ("evaluate", train_main, ["--data", str(file), "--window", "24"]),
        ("score", gpt2_main, [str(file), "--window", "24", "--stride", "24"]),
    ):
        status, out, error = call_here(program, name, *given, *how)
        assert status == 0, error
        result = json.loads(out)
        assert (result["window"], result["stride"], result["dtype"]) == (24, 24, dtype)
        assert result["tokens"] == tokens - 1
        assert result["loss"] == pytest.approx(reported, abs=1e-6)
        bits = result["loss"] * (tokens - 1) / np.log(2) / size
        assert result["bits_per_byte"] == pytest.approx(bits, abs=1e-6)


def test_score_overlaps_and_evaluate_does_not_unless_told(base, documents, call_here):
    values = {}
    for stride in (None, "16", "32"):
        given = ["--stride", stride] if stride else []
        for name, program, file in (
            ("evaluate", train_main, ["--data", str(documents)]),
            ("score", gpt2_main, [str(documents)]),
        ):
            _, out, _ = call_here(program, name, *file, "--model", str(base), "--json", *given)
            values[name, stride] = json.loads(out)
    for stride in ("16", "32"):
        assert values["evaluate", stride] == values["score", stride]
    assert values["score", None] == values["score", "16"]
    assert values["evaluate", None] == values["evaluate", "32"]
    assert values["score", "16"]["loss"] != values["score", "32"]["loss"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--window", "33"], "window must be at most 32"),
        (["--window", "many"], "window must be a whole number of at least 1, not 'many'"),
        (["--stride", "0"], "stride must be a whole number of at least 1"),
        (["--window", "8", "--stride", "9"], "stride must be at most the window, 8"),
        (["--dtype", "int4"], "--dtype"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(base, documents, call_here, given, message):
    for program, file in ((train_main, ["evaluate", "--data"]), (gpt2_main, ["score"])):
        status, out, error = call_here(program, *file, str(documents), "--model", str(base), *given)
        assert (status, out) == (2, "")
        assert message in error
        assert len(error.splitlines()) == 1
