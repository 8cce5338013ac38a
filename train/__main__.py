"""The command line: python -m train run | evaluate."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path

from gpt2.command_line import EXIT_INTERRUPTED, Parser, add_model_option, run_command
from gpt2.errors import UserError
from train.config import PRESETS, TrainConfig

EXIT_FAILED = 1


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    options = build_parser().parse_args(arguments)
    return run_command(lambda: options.command(options))


def build_parser() -> Parser:
    parser = Parser(prog="python -m train", description="Train and fine-tune GPT-2.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_evaluate(commands)
    return parser


def _add_run(commands) -> None:
    presets = "\n".join(
        f"  {name:22} {preset.cost}{'' if preset.model else ' (what --model NAME uses)'}"
        for name, preset in PRESETS.items()
    )
    parser = commands.add_parser(
        "run",
        help="train a model on text",
        description="Fine-tune --model on your text, or train a --preset from scratch.",
        epilog=f"presets and what they cost:\n{presets}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", nargs="+", type=Path, metavar="FILE", help=".txt .md .csv .jsonl, also .xz")
    add("--column", metavar="NAME", help="the text column of .csv and .jsonl")
    add("--model", metavar="NAME", help="train this model further (a folder, 124M, user/repo, ...)")
    new = [name for name, preset in PRESETS.items() if preset.model]
    add("--preset", choices=new, metavar="NAME", help="train one of these from scratch")
    add("--out", required=True, type=Path, metavar="RUN", help="the run folder")
    add("--resume", action="store_true", help="go on with the run in --out")
    add("--tracker", choices=("tensorboard", "trackio"), help="log there too, if it is installed")
    add("--json", action="store_true", help="print a JSON object a step")
    group = parser.add_argument_group("training, each with the preset's value unless given")
    for option in fields(TrainConfig):
        _add_field(group, option)
    parser.set_defaults(command=run)


def _add_field(group, option) -> None:
    flag, meaning = "--" + option.name.replace("_", "-"), option.metadata["help"]
    default = option.default if option.default != "" else "empty"
    meaning = f"{meaning} [{default}]"
    if option.type == "bool":
        action = argparse.BooleanOptionalAction
        group.add_argument(flag, dest=option.name, action=action, default=None, help=meaning)
        return
    kind = {"int": int, "float": float, "str": str}[option.type]
    choices = option.metadata["choices"] or None
    group.add_argument(flag, dest=option.name, type=kind, choices=choices, help=meaning)


def _add_evaluate(commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="the loss of a model on a text",
        description="The loss that training reports as validation loss, over a whole file.",
    )
    add_model_option(parser)
    parser.add_argument("--data", required=True, type=Path, metavar="FILE", help="a text file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=evaluate)


def run(options: argparse.Namespace) -> int:
    from train.distributed import join
    from train.job import Request, existing_job, new_job
    from train.run_folder import DiskFull
    from train.terminal import show
    from train.trackers import track
    from train.trainer import TrainingFailed, train

    names = [option.name for option in fields(TrainConfig)]
    given = ((name, getattr(options, name)) for name in names)
    changes = tuple((name, value) for name, value in given if value is not None)
    with join() as world, _stop_on_signals() as stopped:
        if options.resume:
            job = existing_job(options.out, world, changes)
        else:
            if not options.data:
                raise UserError("Give the text to train on: --data FILE.")
            files, model, preset = tuple(options.data), options.model, options.preset
            job = new_job(
                Request(files, options.out, model, preset, options.column, changes), world
            )
        progress = train(job.model, job.data, job.config, job.run, world, lambda: bool(stopped))
        try:
            show(track(progress, options.tracker, job), job, options.json, world)
        except (TrainingFailed, DiskFull) as error:
            if world.is_main:
                with suppress(DiskFull):  # no room to write down even that
                    job.run.set_state("failed", job.run.state()["step"], str(error))
            where = f" (rank {world.rank})" if world.size > 1 else ""  # it may be no other's
            print(f"failed{where}: {error}", file=sys.stderr)
            return EXIT_FAILED
        return EXIT_INTERRUPTED if signal.SIGINT in stopped else 0


class _stop_on_signals:
    """SIGINT and SIGTERM ask the loop to save and leave; a second one ends the process at once."""

    def __enter__(self) -> list[int]:
        self.received: list[int] = []
        self.before = {s: signal.signal(s, self._receive) for s in (signal.SIGINT, signal.SIGTERM)}
        return self.received

    def _receive(self, number: int, frame: object) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received.append(number)
        print("\nSaving; once more ends at once.", file=sys.stderr)

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def evaluate(options: argparse.Namespace) -> None:
    import numpy as np

    from gpt2.folder import load_model
    from gpt2.hub.resolve import resolve
    from gpt2.score import make_score
    from gpt2.text import read_documents
    from train.evaluate import evaluate as mean_loss

    model, tokenizer = load_model(resolve(options.model))
    text = "".join(read_documents(options.data))
    ids = np.array(tokenizer.encode(text))
    loss = mean_loss(model, ids, model.config.n_positions)
    if loss is None:
        raise UserError("There is nothing to evaluate: the text has fewer than two tokens.")
    count = len(ids) - 1
    result = make_score(loss * count, count, len(text.encode("utf-8")))
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        print(result)


if __name__ == "__main__":
    sys.exit(main())
