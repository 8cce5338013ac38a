"""python -m gpt2 convert: other programs' models to a model folder, and back to their formats."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpt2.command_line import Parser
from gpt2.errors import UserError

HELP = "other programs' GPT-2 to a model folder, and back"
DESCRIPTION = """\
Convert a GPT-2 of another program to a model folder, then compare every value with the source.

SOURCE is OpenAI's release (a size or a directory), a checkpoint of nanoGPT, minGPT or
LLMs-from-scratch or any state dict of PyTorch (.pt, .pth, .bin, .safetensors), a Hugging Face
folder of pytorch_model.bin, a model file of llm.c (.bin), a preset of KerasHub, or a GGUF file.
Pickle files are read without running anything in them.

With --to it goes the other way: SOURCE is a model folder or a model's name, and OUT the new file
(gguf: for llama.cpp) or folder (onnx: for transformers.js and onnxruntime; pytorch: a .bin).

OpenAI's releases need TensorFlow: pip install tensorflow-cpu. They are kept in
$XDG_CACHE_HOME/gpt2-from-scratch (~/.cache/gpt2-from-scratch); the environment variable
GPT2_RELEASE_URL names a mirror of OpenAI's storage. GGUF needs the library gguf, ONNX needs onnx
and onnxruntime."""


def add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE", help="the model to convert: see above")
    add("folder", metavar="OUT", help="the new model folder; with --to, the new file or folder")
    add("--to", choices=("gguf", "onnx", "pytorch"), help="write another program's format instead")
    add(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16", "q8_0"),
        help="number format of the weights (default: float32); q8_0 for gguf only",
    )
    add("--heads", type=int, help="n_head of the source, where nothing in it says so")
    add(
        "--activation",
        choices=("gelu", "gelu_new"),
        help="of the source: GELU by the error function, or by tanh as OpenAI's (default: what "
        "the source's format has)",
    )
    add(
        "--tokenizer",
        metavar="PATH",
        help="of the source: a folder with a tokenizer's files, nanoGPT's meta.pkl, or the text "
        "that a model of characters was trained on",
    )


def run(options: argparse.Namespace) -> None:
    if options.to:
        _export(options)
        return
    from gpt2.formats.incoming import is_foreign

    if options.dtype == "q8_0":
        raise UserError("--dtype q8_0 is of GGUF files only: give --to gguf, or another --dtype.")
    (_convert_foreign if is_foreign(options.source) else _convert_release)(options)


def _convert_release(options: argparse.Namespace) -> None:
    from gpt2.openai.convert import convert

    _refuse_hints(options, "OpenAI's releases say it themselves")
    made = convert(options.source, options.folder, options.dtype)
    rounded = "" if options.dtype == "float32" else f", rounded to {options.dtype}"
    print(made.folder)
    print(
        f"{made.parameters:,} parameters, {made.bytes / 1e6:,.1f} MB; read back, every value is "
        f"the checkpoint's{rounded}\nsha256 of model.safetensors: {made.sha256}",
        file=sys.stderr,
    )


def _convert_foreign(options: argparse.Namespace) -> None:
    from gpt2.formats.foreign_model import Hints
    from gpt2.formats.incoming import convert_foreign

    tokenizer = Path(options.tokenizer).expanduser() if options.tokenizer else None
    hints = Hints(options.heads, options.activation, tokenizer)
    made, found = convert_foreign(options.source, options.folder, options.dtype, hints)
    config = found.config
    gelu = "by the error function" if config.exact_gelu else "by tanh"
    print(made.folder)
    print(
        f"{found.kind}: {config.n_layer} layers, {config.n_embd} wide, {config.n_head} heads, "
        f"{config.vocab_size:,} tokens, GELU {gelu}\n{made.parameters:,} parameters, "
        f"{made.bytes / 1e6:,.1f} MB; read back, every value is the source's, as {options.dtype}\n"
        f"sha256 of model.safetensors: {made.sha256}",
        file=sys.stderr,
    )


def _export(options: argparse.Namespace) -> None:
    from gpt2.formats.outgoing import export_model

    _refuse_hints(options, "a model folder says it itself")
    notes = export_model(options.source, options.folder, options.to, options.dtype)
    print(options.folder)
    for note in notes:
        print(note, file=sys.stderr)


def _refuse_hints(options: argparse.Namespace, why: str) -> None:
    for name in ("heads", "activation", "tokenizer"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name} is not for this source: {why}. Leave it out.")
