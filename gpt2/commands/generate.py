"""python -m gpt2 generate: continue a text."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass

from gpt2.command_line import (
    Parser,
    add_device_option,
    add_format_option,
    add_model_option,
    print_json,
    read_standard_input,
)
from gpt2.settings import add_flags, given_flags, settings_of

HELP = "continue a text"
DESCRIPTION = "Continue PROMPT. The text goes to stdout as it is written, figures to stderr."


def add_arguments(parser: Parser) -> None:
    from gpt2.sampling import Sampling

    parser.add_argument(
        "prompt",
        metavar="PROMPT",
        help='the text to continue; "-" reads stdin; "" begins as the model folder says, or after '
        'the end of another text; after "--" it may begin with a dash',
    )
    add_model_option(parser)
    add_device_option(parser)
    add_format_option(parser)
    add_flags(parser, settings_of(Sampling))
    parser.add_argument("--json", action="store_true", help="print one JSON object per sample")


@dataclass
class Result:
    """One finished sample, as --json prints it."""

    text: str = ""  # what follows the prompt; without one, all of it
    tokens: int = 0
    tokens_per_second: float = 0.0  # of this sample, prefill included, loading not
    seed: int = 0
    stop_reason: str | None = None


def run(options: argparse.Namespace) -> None:
    from gpt2.formats.incoming import as_model_folder

    with as_model_folder(options.model) as options.model:
        _generate(options)


def _generate(options: argparse.Namespace) -> None:
    from gpt2.folder import read_default_prompt
    from gpt2.generate import encode_prompt, generate_pieces
    from gpt2.hub.resolve import resolve
    from gpt2.inference import load_for_inference
    from gpt2.sampling import Sampling, resolve_seed

    given_prompt = read_standard_input() if options.prompt == "-" else options.prompt
    given = given_flags(options, settings_of(Sampling))
    sampling = Sampling(**given | {"seed": resolve_seed(given.get("seed", -1))})
    model, tokenizer = load_for_inference(options.model, options.device, options.dtype)
    begun = "" if given_prompt else read_default_prompt(resolve(options.model))
    prompt = given_prompt or begun
    dropped = len(encode_prompt(tokenizer, prompt)) - model.config.n_positions
    if dropped > 0:
        print(f"note: the prompt's first {dropped} tokens do not fit the window", file=sys.stderr)
    results = [Result(begun, seed=sampling.seed + index) for index in range(sampling.samples)]
    started = time.perf_counter()
    stream = not options.json and sampling.samples == 1
    if stream:
        print(prompt, end="", flush=True)
    for piece in generate_pieces(model, tokenizer, prompt, sampling):
        result = results[piece.sample]
        result.text += piece.text
        result.tokens = piece.tokens
        result.stop_reason = piece.stop_reason
        result.tokens_per_second = round(piece.tokens / (time.perf_counter() - started), 2)
        if stream:
            print(piece.text, end="", flush=True)
    _print_results(given_prompt, results, options.json, stream)


def _print_results(prompt: str, results: list[Result], as_json: bool, streamed: bool) -> None:
    for result in results:
        if as_json:
            print_json(asdict(result))
            continue
        print() if streamed else print(f"{prompt}{result.text}\n")
        print(
            f"[{result.tokens} tokens, {result.tokens_per_second:.0f} tok/s, seed {result.seed}, "
            f"stopped: {result.stop_reason}]",
            file=sys.stderr,
        )
