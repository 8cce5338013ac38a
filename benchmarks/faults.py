"""Training runs that are killed, stopped, split and starved of disk, counted.

    python benchmarks/faults.py [--kills 200] [--splits 20] [--fills 50] [--terms 20] [--seed 0]

Kills: kill -9 at random moments and inside saves, on one run that is always resumed. Every
checkpoint must then verify, at most one save interval may be lost, and the final result must be
that of an undisturbed run.
Splits: a run is stopped at a step and resumed in another process, with and without dropout and
accumulation; weights, optimizer state and losses are compared as sha256 with the unstopped run's.
Fills: a disk with room for a random part of a checkpoint. It is a small file system in a user
namespace (Linux, `unshare`); elsewhere this part is skipped and says so.
Terms: SIGTERM to `python -m train run` at random moments; seconds until it has saved and left.

The model is a toy, but the code is the whole trainer. A training process is a fork of this one, so
that a kill does not cost an interpreter start; the terms start real processes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from gpt2.temporary import temp_folder
from train.__main__ import main as train_command
from train.checkpoint import Checkpoint, DiskFull
from train.distributed import World
from train.job import existing_job
from train.run_folder import RunFolder
from train.trainer import train

TEXT = "It is a truth universally acknowledged, that a text must be long, and more so a run. " * 200
SAVE_EVERY = 5
TOY = [
    "--preset", "shakespeare-char-cpu", "--batch-size", "8", "--micro-batch-size", "8",
    "--block-size", "32", "--evaluate-every", "0", "--sample-every", "0", "--schedule", "constant",
    "--save-every", str(SAVE_EVERY), "--precision", "float32",
]  # fmt: skip
fork = multiprocessing.get_context("fork")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, count in (("kills", 200), ("splits", 20), ("fills", 50), ("terms", 20), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)  # of the fills' file system
    options = parser.parse_args()
    torch.set_num_threads(1)
    dice = random.Random(options.seed)
    if options.inside:
        return fills(options.inside, options.fills, dice)
    with temp_folder() as folder:
        text = folder / "text.txt"
        text.write_text(TEXT)
        failures = kills(folder, text, options.kills, dice)
        failures += splits(folder, text, options.splits)
        failures += fills_in_a_namespace(folder, text, options)
        failures += terms(folder, text, options.terms, dice)
    print("nothing failed" if not failures else f"{failures} FAILED")
    return int(failures > 0)


def run_new(text: Path, out: Path, steps: int, *more: str) -> None:
    command = ["run", "--data", str(text), "--out", str(out), "--steps", str(steps), *TOY, *more]
    _checked(lambda: train_command(command))


def _checked(work: Callable[[], object]) -> None:
    child = _start(work)
    child.join()
    if child.exitcode != 0:
        raise SystemExit(f"a training process ended with {child.exitcode}")


def _start(work: Callable[[], object]) -> multiprocessing.Process:
    child = fork.Process(target=_silent, args=(work,))
    child.start()
    return child


def _silent(work: Callable[[], object]) -> None:
    nowhere = open(os.devnull, "w")  # noqa: SIM115 - open until this process ends
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        status = work()
    os._exit(int(status or 0))


def fingerprint(run: RunFolder, step: int) -> str:
    """sha256 over weights, optimizer state and the losses of all steps."""
    digest = hashlib.sha256()
    saved = run.checkpoints.load(step)
    for part in (saved.model, saved.optimizer):
        for name in sorted(part):
            digest.update(name.encode() + part[name].numpy().tobytes())
    losses = [(p.step, p.loss) for p in run.progress() if p.step <= step]
    return hashlib.sha256(digest.digest() + repr(losses).encode()).hexdigest()


def kills(folder: Path, text: Path, count: int, dice: random.Random) -> int:
    if not count:
        return 0
    run = RunFolder(folder / "killed")
    run_new(text, run.path, SAVE_EVERY)
    go_on = ["run", "--out", str(run.path), "--resume"]
    unreadable = most_lost = inside = failed = 0
    for number in range(count):
        before = run.checkpoints.newest().step
        child = _start(lambda: train_command([*go_on, "--steps", "1000000"]))
        inside += _kill(child, run, dice, in_a_save=number % 2 == 1)
        unreadable += sum(not run.checkpoints.verify(step) for step in run.checkpoints.steps())
        logged = max(p.step for p in run.progress())
        newest = run.checkpoints.newest()
        failed += newest is None or newest.step < before
        most_lost = max(most_lost, logged - newest.step)
    last = run.checkpoints.newest().step + SAVE_EVERY
    _checked(lambda: train_command([*go_on, "--steps", str(last)]))
    untouched = RunFolder(folder / "untouched")
    run_new(text, untouched.path, last)
    equal = fingerprint(run, last) == fingerprint(untouched, last)
    print(
        f"kill -9: {count} kills, {inside} of them inside a save, over {last} steps; {unreadable} "
        f"unreadable checkpoints, {failed} failed resumes, at most {most_lost} steps lost (a save "
        f"every {SAVE_EVERY}); the result equals the untouched run's: {equal}"
    )
    return unreadable + failed + (most_lost > SAVE_EVERY) + (not equal)


def _kill(
    child: multiprocessing.Process, run: RunFolder, dice: random.Random, in_a_save: bool
) -> bool:
    """Kill at a random moment or in one of the next saves; returns whether it was in a save."""
    moment = dice.uniform(0.05, 3.0)
    saves = dice.randrange(1, 6)
    checkpoints = run.path / "checkpoints"
    began, was_saving, saving = time.monotonic(), False, False
    while child.is_alive() and time.monotonic() - began < (20 if in_a_save else moment):
        saving = any(checkpoints.glob(".tmp-*"))
        saves -= saving and not was_saving
        was_saving = saving
        if in_a_save and saves == 0:
            time.sleep(dice.uniform(0, 0.01))
            break
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    return any(checkpoints.glob(".tmp-*"))


def splits(folder: Path, text: Path, count: int) -> int:
    failed = trials = 0
    for dropout in ("0", "0.1"):
        for accumulation in (1, 4):
            more = ["--dropout", dropout, "--micro-batch-size", str(8 // accumulation)]
            name = f"{dropout}-{accumulation}"
            whole = RunFolder(folder / f"whole-{name}")
            steps = count + 2
            run_new(text, whole.path, steps, *more, "--schedule", "cosine")
            expected = fingerprint(whole, steps)
            for split in range(1, count + 1):
                run = RunFolder(folder / f"split-{name}")
                _split(whole, run, split, steps)
                trials += 1
                failed += fingerprint(run, steps) != expected
                shutil.rmtree(run.path)
    if trials:
        print(
            f"splits: {trials} runs stopped and resumed in another process, {count} points x "
            f"dropout 0, 0.1 x accumulation 1, 4; {failed} differ in weights, optimizer or losses"
        )
    return failed


def _split(like: RunFolder, run: RunFolder, step: int, steps: int) -> None:
    """The same run as `like` from its start, in two processes."""
    (run.path / "checkpoints").mkdir(parents=True)
    shutil.copy(like.path / "config.json", run.path)
    shutil.copytree(like.tokens, run.tokens)

    def first() -> None:
        job = existing_job(run.path, World(), ())
        seen = []
        for progress in train(*_arguments(job), should_stop=lambda: seen[-1:] == [step]):
            seen.append(progress.step)

    _checked(first)
    assert run.checkpoints.newest().step == step
    _checked(lambda: train_command(["run", "--out", str(run.path), "--resume"]))


def _arguments(job) -> tuple:
    return job.model, job.data, job.config, job.run


def fills_in_a_namespace(folder: Path, text: Path, options: argparse.Namespace) -> int:
    if not options.fills:
        return 0
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"]).returncode:
        print("disk full: left out; this needs Linux and the right to make a user namespace")
        return 0
    place = folder / "small"
    place.mkdir()
    run_new(text, folder / "starved", SAVE_EVERY)
    size = sum(f.stat().st_size for f in (folder / "starved").rglob("*") if f.is_file())
    again = f"{sys.executable} {__file__} --inside {place} --fills {options.fills}"
    script = (
        f"mount -t tmpfs -o size={8 * size} none {place} && cp -r {folder}/starved {place} && "
        f"exec {again} --seed {options.seed}"
    )
    return subprocess.run(["unshare", "-rm", "sh", "-c", script]).returncode


def fills(place: Path, count: int, dice: random.Random) -> int:
    """Inside the small file system: leave room for only part of a checkpoint, then make room."""
    original, run = place / "starved", RunFolder(place / "run")
    newest = original / "checkpoints" / f"step-{SAVE_EVERY}"
    size = sum(path.stat().st_size for path in newest.iterdir())
    failed = 0
    for number in range(count):
        shutil.copytree(original, run.path)
        before = fingerprint(run, SAVE_EVERY)
        room = int(size * number / count) + (dice.randrange(max(1, size // count)) if number else 0)
        filler = place / "filler"
        free = shutil.disk_usage(place).free
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - room))
        words = _train_until_full(run)
        kept = run.checkpoints.verify(SAVE_EVERY) and fingerprint(run, SAVE_EVERY) == before
        filler.unlink()
        _checked(
            lambda: train_command(
                ["run", "--out", str(run.path), "--resume", "--steps", str(2 * SAVE_EVERY)]
            )
        )
        good = kept and words.startswith("The disk is full")
        if not (good and run.checkpoints.verify(2 * SAVE_EVERY)):
            failed += 1
            print(f"with room for {room:,} bytes: kept {kept}, it said {words!r}")
        shutil.rmtree(run.path)
    print(
        f"disk full: {count} offsets over the {size / 1e6:.1f} MB of a checkpoint; {failed} times "
        "the old checkpoint, the message or resuming failed"
    )
    return failed


def _train_until_full(run: RunFolder) -> str:
    """What the run says when the disk is full; empty if it does not say."""
    receive, send = fork.Pipe()

    def work() -> None:
        job = existing_job(run.path, World(), (("steps", 2 * SAVE_EVERY),))
        try:
            for _ in train(*_arguments(job)):
                pass
            send.send("")
        except DiskFull as error:
            send.send(str(error))
        except Exception as error:
            send.send(f"{type(error).__name__}: {error}")

    _checked(work)
    return receive.recv()


def terms(folder: Path, text: Path, count: int, dice: random.Random) -> int:
    seconds, failed = [], 0
    for number in range(count):
        run = RunFolder(folder / f"term-{number}")
        command = [sys.executable, "-m", "train", "run", "--data", str(text), "--out", run.path]
        process = subprocess.Popen(
            [*map(str, command), "--steps", "1000000", *TOY],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while not (run.path / "checkpoints" / "step-0").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.5))
        began = time.monotonic()
        process.terminate()
        status = process.wait(timeout=60)
        seconds.append(time.monotonic() - began)
        saved: Checkpoint | None = run.checkpoints.newest()
        logged = max(p.step for p in run.progress())
        failed += status != 0 or saved is None or saved.step != logged or seconds[-1] >= 8
        failed += run.state().state != "stopped" or not (run.model / "config.json").exists()
        shutil.rmtree(run.path)
    if count:
        print(
            f"SIGTERM: {count} times, {failed} failed; {statistics.median(seconds):.1f} s until "
            f"saved and left, at most {max(seconds):.1f} s"
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
