"""python -m train run: fine-tune a model, or train one from scratch."""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import suppress
from pathlib import Path

from gpt2.command_line import EXIT_INTERRUPTED, Parser, add_text_options
from gpt2.errors import UserError
from gpt2.settings import add_flags, given_flags, settings_of

HELP = "train a model on text"
DESCRIPTION = "Fine-tune --model on your text, or train a --preset from scratch."
EXIT_FAILED = 1


def add_arguments(parser: Parser) -> None:
    from train.config import PRESETS, TrainConfig

    presets = "\n".join(
        f"  {name:22} {preset.cost}{'' if preset.model else ' (what --model NAME uses)'}"
        for name, preset in PRESETS.items()
    )
    parser.epilog = f"presets and what they cost:\n{presets}"
    add = parser.add_argument
    add(
        "--data",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="text files or tables (.txt .md .csv .tsv .json .jsonl .parquet, also .xz), folders "
        'of them, or a pattern ("books/*.txt")',
    )
    add_text_options(parser)
    add("--model", metavar="NAME", help="train this model further (a folder, 124M, user/repo, ...)")
    new = [name for name, preset in PRESETS.items() if preset.model]
    add("--preset", choices=new, metavar="NAME", help="train one of these from scratch")
    add("--out", required=True, type=Path, metavar="RUN", help="the run folder")
    add("--resume", action="store_true", help="continue the run in --out")
    add("--tracker", choices=("tensorboard", "trackio"), help="log there too, if it is installed")
    add("--json", action="store_true", help="print one JSON object per step")
    group = parser.add_argument_group("training; what is not given is as in the preset")
    add_flags(group, settings_of(TrainConfig))


def run(options: argparse.Namespace) -> int:
    from train.checkpoint import DiskFull
    from train.config import TrainConfig
    from train.distributed import join
    from train.job import JobRequest, existing_job, new_job
    from train.states import RunState
    from train.terminal import show_run
    from train.trackers import track
    from train.trainer import TrainingFailed, train

    changes = tuple(given_flags(options, settings_of(TrainConfig)).items())
    with join() as world, _stop_on_signals() as stopped:
        if options.resume:
            _refuse_beside_resume(options)
            job = existing_job(options.out, world, changes)
        else:
            if not options.data:
                raise UserError("Give the text to train on: --data FILE.")
            request = JobRequest(
                tuple(options.data),
                options.out,
                model=options.model,
                preset=options.preset,
                column=options.column,
                encoding=options.encoding,
                changes=changes,
            )
            job = new_job(request, world)
        progress = train(job.model, job.data, job.config, job.run, world, lambda: bool(stopped))
        try:
            show_run(track(progress, options.tracker, job), job, options.json, world)
        except (TrainingFailed, DiskFull) as error:
            if world.is_main:
                with suppress(DiskFull):  # no room to write down even that
                    job.run.set_state(RunState.FAILED, cause=str(error))
            where = f" (rank {world.rank})" if world.size > 1 else ""  # it may be no other's
            print(f"failed{where}: {error}", file=sys.stderr)
            return EXIT_FAILED
        return EXIT_INTERRUPTED if signal.SIGINT in stopped else 0


def _refuse_beside_resume(options: argparse.Namespace) -> None:
    """What a run began with is its own: nothing that was asked for is ignored."""
    for name in ("data", "model", "preset", "column", "encoding"):
        if getattr(options, name, None):
            raise UserError(
                f"--{name} has no effect beside --resume: a run keeps the text and the model that "
                "it began with. Leave it out, or start a new run with --model RUN/model."
            )


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
        print("\nSaving. Press again to quit at once.", file=sys.stderr)

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
