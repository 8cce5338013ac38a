"""python -m train run: fine-tune a model, or train one from scratch."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from gpt2.command_line import EXIT_INTERRUPTED, Parser, add_device_option, add_text_options
from gpt2.errors import UserError
from gpt2.settings import Setting, add_flags, flag_of, given_flags, settings_of

HELP = "train a model on text"
DESCRIPTION = "Fine-tune --model on your text, or train a --preset from scratch."
EXIT_FAILED = 1
EPOCHS = Setting(
    "times through the text, instead of --steps; of all that it has seen, on --resume",
    name="epochs",
    kind="float | None",
    above=0.0,
    high=1e6,
    asked="as --steps says",
)


def add_arguments(parser: Parser) -> None:
    from train.config import PRESETS, TrainConfig
    from train.own_shape import OwnShape

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
    add_device_option(parser)
    add(
        "--json",
        action="store_true",
        help="print one JSON object per step; its perplexity and sample are null in most",
    )
    group = parser.add_argument_group("the shape of a new model, where it is not the preset's")
    add_flags(group, settings_of(OwnShape))
    group = parser.add_argument_group("training; what is not given is as in the preset")
    add_flags(group, (EPOCHS, *settings_of(TrainConfig)))


def run(options: argparse.Namespace) -> int:
    from train.checkpoint import DiskFull
    from train.config import TrainConfig
    from train.distributed import join
    from train.job import JobRequest, existing_job, new_job
    from train.own_shape import OwnShape
    from train.states import RunState
    from train.terminal import show_run
    from train.trackers import track
    from train.trainer import TrainingFailed, train

    changes = tuple(given_flags(options, settings_of(TrainConfig)).items())
    epochs = EPOCHS.parse(options.epochs)
    shape = given_flags(options, settings_of(OwnShape))
    if epochs and options.steps is not None:
        raise UserError("Give --epochs or --steps: each says how long to train.")
    if options.shard and "RANK" not in os.environ:
        raise UserError("--shard has no effect on one process: start it under torchrun.")
    with join(options.device) as world, _stop_on_signals() as stopped:
        if options.resume:
            _refuse_beside_resume(options, shape)
            job = existing_job(options.out, world, changes, epochs)
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
                epochs=epochs,
                shape=OwnShape(**shape),
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


def _refuse_beside_resume(options: argparse.Namespace, shape: dict[str, object]) -> None:
    """What a run began with is its own: nothing that was asked for is ignored. To name the model or
    the preset that it began with is no harm; its text is tokenized and cannot be compared."""
    from train.own_shape import OwnShape
    from train.run_folder import RunFolder

    same = set()
    with suppress(UserError):  # no run: what opens it will say so
        began = RunFolder.open(options.out).description()
        same = {one for one in ("model", "preset") if getattr(options, one) == getattr(began, one)}
    given = [name for name in _ONLY_TO_BEGIN if getattr(options, name) and name not in same]
    flags = [f"--{name}" for name in given]
    flags += [flag_of(one) for one in settings_of(OwnShape) if one.name in shape]
    if flags:
        raise UserError(
            f"{flags[0]} has no effect beside --resume: a run keeps the text and the model that "
            f"it began with. Leave it out, or start a new run with --model {options.out}/model "
            "--data FILE --out NEW."
        )


_ONLY_TO_BEGIN = ("data", "model", "preset", "column", "encoding")


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
