"""What happens to a server and its runs when the machine misbehaves: a table.

    python benchmarks/disasters.py [--markdown FILE] [--only WORD ...]

A real app with a toy model in folders of its own: two servers over one folder, kill -9 of the app
and of the process that trains, SIGTERM, full disks (small ones, mounted where that is allowed), a
clock that jumps, a folder that cannot be written. Each row says what happened, what the visitor is
told, what was lost, and whether that is as it must be. Exits with 1 where it is not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent.parent))

import service.runs
import service.storage
from gpt2.errors import UserError
from service.ids import new_id
from service.runs import Runs
from tests.support.app_process import ROOT, AppProcess, start_app, start_program, workers_of
from tests.support.app_server import wait_until
from tests.support.attacks.table import Stage, is_refusal, reason_of
from tests.support.site import Reply, function_named
from tests.support.toy_runs import LIMITS, QUICK, make_base, make_request, wait

STEPS = {"steps": 100_000, "evaluate_every": 50, "sample_every": 0, "batch_size": 4,
         "micro_batch_size": 4, "block_size": 16}  # fmt: skip
TEXT = "It is a truth universally acknowledged. " * 200
SAVED_SECONDS = 8.0
_WEEK_AND_A_DAY = 8 * 86_400
MB = 1 << 20


@dataclass(frozen=True)
class Outcome:
    happened: str
    told: str  # to the visitor, or to whoever starts the server
    lost: str
    held: bool


class LeftOut(Exception):
    """Why a row cannot be tried on this machine."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="rows that have these words")
    options = parser.parse_args()
    lines = ["| | what happened | what is told | lost | |", "|---|---|---|---|---|"]
    failed = 0
    for name, try_it in DISASTERS.items():
        if options.only and not any(word in name for word in options.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = attempt(try_it, Path(folder))
            lines.append(as_row(name, found).replace(folder, "..."))
        failed += not found.held
        print(lines[-1], flush=True)
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n")
    print("all held" if not failed else f"{failed} FAILED")
    return int(failed > 0)


def attempt(try_it: Callable[[Path], Outcome], folder: Path) -> Outcome:
    make_base(folder / "models" / "toy")
    try:
        return try_it(folder)
    except LeftOut as reason:
        return Outcome(f"left out: {reason}", "", "", True)
    except Exception as error:
        return Outcome(f"{type(error).__name__}: {str(error)[-300:]}", "", "?", False)


def as_row(name: str, found: Outcome) -> str:
    cells = [name, found.happened, found.told, found.lost, "held" if found.held else "**failed**"]
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


# ---- a server and its processes


def two_servers(folder: Path) -> Outcome:
    with stage_in(folder) as stage:
        second = start_app(folder / "second", toy(folder), "--runs", str(stage.app.runs))
        status = second.process.wait(timeout=60)
        told = second.log.strip()
        held = status == 2 and "Another server uses" in told and "Traceback" not in told
        held = held and stage.app.is_alive()
        return Outcome(f"the second leaves with {status}", told, "nothing", held)


def kill_server(folder: Path) -> Outcome:
    with stage_in(folder) as stage:
        run = start(stage)
        before = steps_of(stage, run)
        stage.app.end(signal.SIGKILL)
        alive = bool(workers_of(stage.app.runs))
    with stage_in(folder) as again:
        wait_until(lambda: steps_of(again, run) > before, "the run to go on", 30)
        state = again.state_of(run)
        return Outcome(
            f"training goes on without the server; the next one finds it {state}",
            "the page reconnects and shows the run",
            "what was being written for visitors",
            alive and state in ("training", "evaluating", "saving"),
        )


def kill_worker(folder: Path) -> Outcome:
    with stage_in(folder) as stage:
        run = start(stage)
        wait_until(lambda: bool(checkpoints(stage.app, run)), "a checkpoint", 60)
        (worker,) = workers_of(stage.app.runs)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: stage.state_of(run) == "interrupted", "the end", 30)
        status = status_of(stage, run)
        at, kept = status["step"], max(checkpoints(stage.app, run))
        resume(stage, run)
        wait_until(lambda: steps_of(stage, run) > at, "the run to go on", 60)
        return Outcome(
            "the run is interrupted; Resume goes on from the last checkpoint",
            status["message"],
            f"{at - kept} steps",
            "Resume" in status["message"],
        )


def terminate_server(folder: Path) -> Outcome:
    with stage_in(folder) as stage:
        run = start(stage)
        workers = workers_of(stage.app.runs)
        left = stage.app.end(signal.SIGTERM)
        begun = time.monotonic()
        for worker in workers:  # what a container's end does to all that is in it
            os.kill(worker, signal.SIGTERM)
        wait_until(lambda: not workers_of(stage.app.runs), "the workers", 30)
        saved = time.monotonic() - begun
    with stage_in(folder) as again:
        status = status_of(again, run)
        held = status["state"] == "stopped" and status["result_ready"] and saved < SAVED_SECONDS
        return Outcome(
            f"the server leaves in {left:.1f} s, training has saved in {saved:.1f} s; the next "
            f"server finds the run {status['state']}, with a model",
            status["message"],
            "nothing",
            held and status["step"] == max(checkpoints(again.app, run)),
        )


# ---- disks


def full_disk_at_start(folder: Path) -> Outcome:
    with small_disk(folder / "server" / "runs", 64), stage_in(folder) as stage:
        reply = begin(stage)
        writes = stage.site.call("generate", ["Once", "toy", 3])
        held = is_refusal(reply) and "room" in reason_of(reply) and not is_refusal(writes)
        return Outcome("no run starts; writing goes on", reason_of(reply), "nothing", held)


def full_disk_in_a_checkpoint(folder: Path) -> Outcome:
    """Through `service`, whose free space can be set: the app keeps 2 GB free."""
    place = folder / "small"
    with small_disk(place, 24):
        runs = Runs(place / "runs", LIMITS)
        try:
            changes = QUICK | {"steps": 100_000, "evaluate_every": 20, "sample_every": 0}
            run = runs.create(make_request(folder / "models" / "toy", changes), new_id())
            wait(runs, run, lambda s: bool(s.checkpoints))
            fill(place)
            ended = wait(runs, run, lambda s: s.state.is_ended)
            (place / "filler").unlink()
            kept = max(point.step for point in ended.checkpoints)
            runs.resume(run)
            wait(runs, run, lambda s: s.step > ended.step or s.state.is_ended)
            on = runs.status(run)
            held = "full" in (ended.message or "") and not on.state.is_ended
            words = f"the run is {ended.state}; with room, Resume goes on"
            return Outcome(words, ended.message or "", f"{ended.step - kept} steps", held)
        finally:
            runs.close(kill=True)


def full_temp(folder: Path) -> Outcome:
    with small_disk(folder / "server" / "temp", 64), stage_in(folder) as stage:
        fill(stage.app.temp)
        seen = len(stage.app.log)
        upload = stage.site.upload(("a.txt", TEXT.encode() * 100))
        pasted = begin(stage)
        writes = stage.site.call("generate", ["Once", "toy", 3])
        errors = stage.app.errors(seen)
        words = f"an upload is answered with {upload.status}; writing and pasted texts go on"
        held = upload.status == 507 and not is_refusal(writes) and not is_refusal(pasted)
        return Outcome(words, reason_of(upload), "nothing", held and not errors)


# ---- clocks


def clock_ahead(folder: Path) -> Outcome:
    return jump(folder, _WEEK_AND_A_DAY)


def clock_back(folder: Path) -> Outcome:
    return jump(folder, -_WEEK_AND_A_DAY)


def jump(folder: Path, seconds: float) -> Outcome:
    """A clock that is wrong for a moment, over an ended run; the disk is swept meanwhile."""
    real, sweep = service.storage.time, service.runs._SWEEP_SECONDS
    service.runs._SWEEP_SECONDS = 0.2
    runs = Runs(folder / "runs", LIMITS)
    try:
        run = runs.create(make_request(folder / "models" / "toy"), new_id())
        wait(runs, run, lambda s: s.state.is_ended)
        wrong = SimpleNamespace(**vars(time) | {"time": lambda: time.time() + seconds})
        service.storage.time = wrong
        time.sleep(1.5)
        service.storage.time = real
        try:
            state = str(runs.status(run).state)
        except UserError as error:
            return Outcome("every ended run was deleted", str(error), "all ended runs", False)
        return Outcome(f"the run is {state}", "nothing", "nothing", True)
    finally:
        service.storage.time, service.runs._SWEEP_SECONDS = real, sweep
        runs.close(kill=True)


# ---- folders


def read_only_runs(folder: Path) -> Outcome:
    with small_disk(own_house(folder) / "runs", 4, "ro"):
        return without_runs(folder)


def runs_is_a_file(folder: Path) -> Outcome:
    (own_house(folder) / "runs").write_text("a file")
    return without_runs(folder)


def named_runs_is_a_file(folder: Path) -> Outcome:
    """Whoever names a folder wants its runs: the server must not start without them."""
    (folder / "server").mkdir()
    (folder / "server" / "runs").write_text("a file")
    app = start_app(folder / "server", toy(folder))
    try:
        status, words = app.process.wait(timeout=60), app.log.strip()
    finally:
        app.process.kill()
    return Outcome(f"the server leaves with {status}", words, "nothing", status == 2)


def own_house(folder: Path) -> Path:
    """A house whose own folder of runs can be spoiled: `app.py`, and links to the rest."""
    house = folder / "server"
    house.mkdir()
    shutil.copy(ROOT / "app.py", house)
    for room in ("gpt2", "train", "service", "ui", "models"):
        (house / room).symlink_to(ROOT / room)
    return house


def without_runs(folder: Path) -> Outcome:
    """The page must start, write, and say that it cannot train."""
    house = folder / "server"
    app = start_program(house / "app.py", house, "--model", toy(folder))
    try:
        wait_until(lambda: app.is_alive() or app.process.poll() is not None, "the app", 60)
        if not app.is_alive():
            words = [line for line in app.log.splitlines() if line.strip()]
            status = app.process.returncode
            return Outcome(f"the server leaves with {status}", words[-1][:300], "Write too", False)
        stage = Stage.of(app, "toy")
        reply, writes = begin(stage), stage.site.call("generate", ["Once", "toy", 3])
        held = is_refusal(reply) and not is_refusal(writes)
        return Outcome("the page starts and writes", reason_of(reply), "nothing", held)
    finally:
        if app.process.poll() is None:
            app.end()


DISASTERS: dict[str, Callable[[Path], Outcome]] = {
    "two servers over one folder of runs": two_servers,
    "kill -9 of the server in a run": kill_server,
    "kill -9 of the training process": kill_worker,
    "SIGTERM in a run": terminate_server,
    "the disk of the runs is full at a start": full_disk_at_start,
    "the disk of the runs is full in a checkpoint": full_disk_in_a_checkpoint,
    "the disk of temporary files is full": full_temp,
    "the clock is 8 days ahead for a moment": clock_ahead,
    "the clock is 8 days back for a moment": clock_back,
    "the runs folder is read-only": read_only_runs,
    "the runs folder is a file": runs_is_a_file,
    "a folder named with --runs is a file": named_runs_is_a_file,
}


# ---- what they share


def toy(folder: Path) -> str:
    return str(folder / "models" / "toy")


@contextmanager
def stage_in(folder: Path) -> Iterator[Stage]:
    """The app over `folder`/server, again and again; what it trains goes on when this ends."""
    app = start_app(folder / "server", toy(folder))
    try:
        wait_until(lambda: app.is_alive() or app.process.poll() is not None, "the app", 60)
        if not app.is_alive():
            raise RuntimeError(app.log)
        yield Stage.of(app, "toy")
    finally:
        if app.process.poll() is None:
            app.end()
            for pid in workers_of(app.runs):
                os.kill(pid, signal.SIGKILL)


def begin(stage: Stage) -> Reply:
    return stage.site.call("start_run", [TEXT, None, "toy", "taste", STEPS])


def start(stage: Stage) -> str:
    """A run that trains."""
    reply = begin(stage)
    run = reply.text.rpartition('["')[2][:32]
    wait_until(lambda: steps_of(stage, run) >= 10, f"a run to train: {reply.text}", 60)
    return run


def status_of(stage: Stage, run: str) -> dict:
    text = stage.site.call("run_status", [run]).text
    return json.loads(text.rpartition("data: ")[2])[0]


def steps_of(stage: Stage, run: str) -> int:
    return status_of(stage, run)["step"]


def resume(stage: Stage, run: str) -> None:
    """Of the page's three handlers that only act on a run, the last one wired."""
    function = function_named(stage.functions, "handler_2")
    reply = stage.site.event(function, [{"owner": new_id(), "run": run}])
    assert "Resuming" in reply.text, reply.text


def checkpoints(app: AppProcess, run: str) -> list[int]:
    return [int(path.name[5:]) for path in (app.runs / run / "checkpoints").glob("step-*")]


@contextmanager
def small_disk(place: Path, megabytes: int, mode: str = "rw") -> Iterator[None]:
    """A file system of that size at `place`. `LeftOut` where it may not be mounted."""
    place.mkdir(parents=True, exist_ok=True)
    if not shutil.which("mount"):
        raise LeftOut("there is no mount here")
    options = ["-t", "tmpfs", "-o", f"{mode},size={megabytes}m", "none", str(place)]
    if subprocess.run(["mount", *options], capture_output=True).returncode:
        raise LeftOut("this needs the right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> None:
    with open(place / "filler", "wb") as file:
        free = shutil.disk_usage(place).free
        os.posix_fallocate(file.fileno(), 0, max(1, free))


if __name__ == "__main__":
    sys.exit(main())
