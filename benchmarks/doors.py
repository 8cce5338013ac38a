"""Models that went out of here, run by the programs that they went out for; needs these programs:

    pip install -r requirements-doors.txt
    python benchmarks/doors.py [--model storyteller] [--strings 2000]

GGUF in float32, float16 and q8_0 is loaded by llama.cpp (through llama-cpp-python): its tokens of
random strings, its logits, its 64 greedy tokens beside ours. One JSON object a line.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch

from gpt2.folder import load_model
from gpt2.formats.incoming import convert_foreign
from gpt2.formats.outgoing import export_model
from gpt2.generate import generate_tokens
from gpt2.hub.resolve import resolve
from gpt2.sampling import Sampling
from gpt2.temporary import temp_folder
from gpt2.tokenizer import BytePairTokenizer

PROMPT = "Once upon a time there was a little"
GREEDY = Sampling(temperature=0, repetition_penalty=1, top_k=0, top_p=1, max_new_tokens=64)
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz ",
    "The quick brown fox, jumps over 12345 lazy dogs' \n\t",
    "éàüßøñčžşğıİµ€ “”‘’—…",
    "ελληνικά русский язык 日本語の文章 한국어 العربية 😀👩‍👩‍👧",
    "".join(map(chr, range(32, 127))) + "\r\n\x0b\xa0\u2003",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="storyteller")
    parser.add_argument("--strings", type=int, default=2000)
    options = parser.parse_args()
    for dtype in ("float32", "float16", "q8_0"):
        with temp_folder() as scratch:
            export_model(options.model, scratch / "model.gguf", "gguf", dtype)
            found = compare_llama_cpp(scratch / "model.gguf", options.model, options.strings)
            if dtype == "float32":
                found["back"] = return_from_llama_cpp(scratch / "model.gguf", options.model)
        peer = {"llama-cpp-python": version("llama-cpp-python")}
        print(json.dumps({"door": "gguf", "dtype": dtype} | peer | found), flush=True)


def compare_llama_cpp(path: Path, name: str, count: int) -> dict[str, object]:
    """llama.cpp's tokens, logits and greedy continuation beside ours."""
    from llama_cpp import Llama

    model, tokenizer = load_model(resolve(name), device="cpu", dtype=torch.float32)
    window = model.config.n_positions
    theirs = Llama(
        str(path), n_ctx=window, n_threads=1, logits_all=True, verbose=False,
        type_k=0, type_v=0,  # a cache in float32, as ours
    )  # fmt: skip
    strings = random_strings(tokenizer, count)
    same = sum(
        theirs.tokenize(one.encode(), add_bos=False, special=False) == tokenizer.encode(one)
        for one in strings
    )
    prompt = tokenizer.encode(PROMPT)
    ours, written = list(generate_tokens(model, prompt, GREEDY)), []
    theirs.eval(prompt)
    logits = np.array(theirs.scores[: len(prompt)])
    with torch.inference_mode():
        expected = model(torch.tensor([prompt]))[0].numpy()
    for position in range(len(prompt) - 1, len(prompt) + 63):
        written.append(int(theirs.scores[position].argmax()))
        theirs.eval(written[-1:])
    return {
        "strings": len(strings),
        "same_tokens": same,
        "logit_difference": float(np.abs(logits - expected).max()),
        "largest_logit": float(np.abs(expected).max()),
        "same_greedy": next((i for i, (a, b) in enumerate(zip(ours, written)) if a != b), 64),
    }


def return_from_llama_cpp(path: Path, name: str) -> dict[str, object]:
    """The file as llama.cpp writes it again, in its own q8_0, converted to a model folder."""
    import llama_cpp

    again, folder = path.with_name("again.gguf"), path.with_name("again")
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    llama_cpp.llama_model_quantize(bytes(path), bytes(again), ctypes.byref(settings))
    convert_foreign(again, folder)
    ours, tokenizer = load_model(resolve(name), device="cpu", dtype=torch.float32)
    back, its_tokenizer = load_model(folder, device="cpu")
    pairs = zip(ours.state_dict().values(), back.state_dict().values())
    strings = random_strings(tokenizer, 200)
    return {
        "largest_change": max(float((b - a).abs().max() / a.abs().max()) for a, b in pairs),
        "same_tokens": sum(its_tokenizer.encode(x) == tokenizer.encode(x) for x in strings),
        "strings": len(strings),
    }


def random_strings(tokenizer: object, count: int) -> list[str]:
    """Of several scripts; with the model's added tokens between words, where it has some."""
    choose = random.Random(0)
    added = [token.content for token in tokenizer.settings.added] if isinstance(
        tokenizer, BytePairTokenizer) else []  # fmt: skip
    strings = []
    for _ in range(count):
        letters = choose.choice(ALPHABETS)
        text = "".join(choose.choices(letters, k=choose.randrange(1, 60)))
        strings.append(text + (choose.choice(added) + " end" if added else ""))
    return strings


if __name__ == "__main__":
    main()
