"""The command line: python -m gpt2 generate | score | convert | push | pull."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass

from gpt2.command_line import Parser, add_model_option, number, run_command
from gpt2.exchange_commands import add_convert, add_pull, add_push


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 2 bad usage or input, 130 interrupted."""
    options = build_parser().parse_args(arguments)
    return run_command(lambda: options.command(options))


def build_parser() -> Parser:
    parser = Parser(
        prog="python -m gpt2", description="Generate with a GPT-2, and exchange models."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_generate(commands)
    _add_score(commands)
    for add_command in (add_convert, add_push, add_pull):
        add_command(commands)
    return parser


def _add_generate(commands) -> None:
    parser = commands.add_parser(
        "generate",
        help="continue a text",
        description="Continue PROMPT. Text goes to stdout as it is made, figures to stderr.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("prompt", metavar="PROMPT", help='text to continue; "-" reads stdin')
    add_model_option(parser)
    add = parser.add_argument
    add("--max-new-tokens", type=number, default=100, metavar="N", help="longest continuation")
    add("--temperature", type=number, default=0.8, metavar="T", help="0 = always the likeliest")
    add("--top-k", type=number, default=40, metavar="K", help="draw from the K likeliest; 0 = off")
    add("--top-p", type=number, default=0.95, metavar="P", help="draw from this share; 1 = off")
    add("--repetition-penalty", type=number, default=1.1, metavar="R", help="1 = off")
    add("--seed", type=number, default=-1, metavar="S", help="-1 = a random one, reported")
    add("--samples", type=number, default=1, metavar="N", help="continuations, made as one batch")
    add("--stop", default="", metavar="TEXT", help="end before this text")
    add("--ignore-end", action="store_true", help="go on behind an end of text")
    add("--json", action="store_true", help="print one JSON object a sample instead")
    parser.set_defaults(command=generate)


def _add_score(commands) -> None:
    parser = commands.add_parser(
        "score",
        help="how well a model predicts a text",
        description="Print the loss, perplexity and bits per byte of a model on a text file.",
    )
    parser.add_argument("file", metavar="FILE", help="a text file (.xz is unpacked)")
    add_model_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=score)


@dataclass
class Result:
    """One finished sample, as --json prints it."""

    text: str = ""
    tokens: int = 0
    tokens_per_second: float = 0.0  # of this sample, prefill included, loading not
    seed: int = 0
    stop_reason: str | None = None


def generate(options: argparse.Namespace) -> None:
    from gpt2.generate import encode_prompt, generate_pieces
    from gpt2.inference import load_for_inference
    from gpt2.sampling import Sampling, resolve_seed

    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    sampling = Sampling(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        repetition_penalty=options.repetition_penalty,
        max_new_tokens=options.max_new_tokens,
        seed=resolve_seed(options.seed),
        samples=options.samples,
        stop=options.stop,
        stop_at_end_of_text=not options.ignore_end,
    )
    model, tokenizer = load_for_inference(options.model)
    dropped = len(encode_prompt(tokenizer, prompt)) - model.config.n_positions
    if dropped > 0:
        print(f"note: the prompt's first {dropped} tokens do not fit the window", file=sys.stderr)
    results = [Result(seed=sampling.seed + index) for index in range(sampling.samples)]
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
    _print_results(prompt, results, options.json, stream)


def _print_results(prompt: str, results: list[Result], as_json: bool, streamed: bool) -> None:
    for result in results:
        if as_json:
            print(json.dumps(asdict(result), ensure_ascii=False))
            continue
        print() if streamed else print(f"{prompt}{result.text}\n")
        print(
            f"[{result.tokens} tokens, {result.tokens_per_second:.0f} tok/s, seed {result.seed}, "
            f"stopped: {result.stop_reason}]",
            file=sys.stderr,
        )


def score(options: argparse.Namespace) -> None:
    from gpt2.folder import load_model
    from gpt2.hub.resolve import resolve
    from gpt2.score import score_documents
    from gpt2.text import read_documents

    model, tokenizer = load_model(resolve(options.model))
    result = score_documents(model, tokenizer, read_documents(options.file))
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        print(
            f"loss {result.loss:.4f}, perplexity {result.perplexity:.2f}, "
            f"{result.bits_per_byte:.4f} bits per byte, {result.tokens:,} tokens"
        )


if __name__ == "__main__":
    sys.exit(main())
