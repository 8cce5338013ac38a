"""The process that trains one run, python -m service.worker RUN; or the same in slices.

Either one holds the run's lock while it works, reports what it is doing with a heartbeat, ends on
a stop request, and leaves a checkpoint, a state and its cause. If it is killed, the work since the
last checkpoint is lost; from there, the run continues bit for bit.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from gpt2.errors import UserError, without_paths
from gpt2.files import is_disk_full
from gpt2.generate import generate_pieces
from gpt2.sampling import Sampling
from gpt2.system import lower_priority
from service import ipc
from train.checkpoint import DiskFull
from train.distributed import World, join
from train.job import Job, existing_job
from train.lora import merged
from train.memorization import TrainingText, open_training_text
from train.run_folder import Progress, RunFolder
from train.states import RunState
from train.trainer import Trainer, TrainingFailed

PAUSED = "The run is waiting for its next time slice."
_NICENESS = 10
_OOM_SCORE = 600  # of 1000: if memory runs out, the system ends this process, not the server
_MEASURED = Sampling(max_new_tokens=150, samples=4)  # for a result's memorization


def train_slice(run_path: Path, seconds: float, device: str = "auto") -> Iterator[Progress]:
    """Continue a run for `seconds`, save, and leave; or finish it if its end comes first.

    The worker is one long slice. `UserError` if another process holds the run; anything else that
    goes wrong ends the run as "failed", with the cause in its state. Between slices, the run is
    "interrupted".
    """
    yield from _work(Path(run_path), seconds, True, lambda: False, device)


def main(arguments: list[str] | None = None) -> int:
    """Train the run to its end, its time limit or a stop; 0 if it then has a model, else 1."""
    parser = argparse.ArgumentParser(prog="python -m service.worker", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    path = options.run
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    _lower_priority()
    seconds, used = ipc.read(path, ipc.Order).run_seconds, ipc.read(path, ipc.Ticket).used
    seconds = math.inf if seconds is None else max(0.0, seconds - used)
    for _ in _work(path, seconds, False, lambda: bool(told), options.device):
        pass
    return 0 if RunFolder(path).state().state in (RunState.DONE, RunState.STOPPED) else 1


def _lower_priority() -> None:
    """The server comes first, both for the processor and when memory runs out."""
    lower_priority(_NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))


def _work(
    path: Path,
    seconds: float,
    pause: bool,
    stop_signaled: Callable[[], bool],
    device: str,
) -> Iterator[Progress]:
    """Hold the run and train it; any ending is recorded before the lock is released."""
    run = RunFolder.open(path)
    with ipc.run_lock(path), ipc.Heartbeat(path) as heartbeat, join(device) as world:
        used = ipc.read(path, ipc.Ticket).used
        for request in (ipc.Ticket, ipc.Yield):
            ipc.remove(path, request)
        with suppress(OSError):
            (path / ipc.RESERVE).write_bytes(bytes(ipc.RESERVED_BYTES))
        run.set_state(RunState.PREPARING)
        try:
            stretch = _Session(run, world, heartbeat, seconds, stop_signaled)
            yield from stretch.progress()
            stretch.finish(pause, used)
        except (TrainingFailed, DiskFull, UserError) as error:
            _fail(run, str(error))
        except MemoryError:
            _fail(run, "Out of memory. Choose a smaller model, batch or block size and try again.")
        except Exception as error:
            _print_traceback()
            _fail(
                run,
                _NO_ROOM if is_disk_full(error) else _UNEXPECTED.format(error=type(error).__name__),
            )


_NO_ROOM = (
    "The server's disk is full. The last checkpoint is intact: discard what you no longer need, "
    "then resume."
)
_UNEXPECTED = (
    "Training ended with an unexpected error ({error}); see the end of the log. The last "
    "checkpoint is intact: resume to try again from there."
)


def _fail(run: RunFolder, cause: str) -> None:
    """Where the disk is full, the reserve makes room to write that down before the log takes it."""
    with suppress(OSError):
        (run.path / ipc.RESERVE).unlink()
    for request in (ipc.Stop, ipc.Yield):
        ipc.remove(run.path, request)
    # Visitors need not know where it is.
    told = without_paths(cause.replace(str(run.path), "the run's folder"))
    with suppress(DiskFull):
        run.set_state(RunState.FAILED, cause=told)
    with suppress(OSError):
        print(f"failed: {cause}", file=sys.stderr)


def _print_traceback() -> None:
    with suppress(OSError):  # the disk of the log is full
        traceback.print_exc()


class _Session:
    """From the start or the newest checkpoint to whatever ends it next."""

    def __init__(
        self,
        run: RunFolder,
        world: World,
        heartbeat: ipc.Heartbeat,
        seconds: float,
        stop_signaled: Callable[[], bool],
    ) -> None:
        self.run, self.heartbeat, self.stop_signaled = run, heartbeat, stop_signaled
        self.began = time.monotonic()
        self.seconds, self.deadline = seconds, self.began + seconds
        # Even the shortest slice makes a step, or a run might never end.
        self.first_step: float | None = None  # when it was done, monotonic seconds
        self.makes_way = False  # for another run
        self.job = _limited(existing_job(run.path, world, ()))
        self.text = _training_text(self.job)
        self.trainer = Trainer(self.job.model, self.job.data, self.job.config, run, world)
        self.trainer.on_phase = heartbeat.phase
        ipc.write(run.path, ipc.Measured(str(self.trainer.measure)))

    def progress(self) -> Iterator[Progress]:
        for index, progress in enumerate(self.trainer.steps(self._should_stop)):
            if index == 0:
                self.heartbeat.tell(since=progress.step)
            self.first_step = self.first_step or time.monotonic()
            yield progress

    def finish(self, pause: bool, used: float) -> None:
        """Leave a model and say why the run ended; or, to `pause` or to make way for another run,
        leave only the checkpoint. `used` seconds of its limit were trained before."""
        asked = ipc.exists(self.run.path, ipc.Stop)
        must_end = asked or self.trainer.finished or self.stop_signaled()
        if (pause or self.makes_way) and not must_end:
            self.run.set_state(RunState.TRAINING, self.trainer.state.step, PAUSED)
            if self.makes_way:
                used += time.monotonic() - self.began
                ipc.remove(self.run.path, ipc.Yield)
                ipc.write(self.run.path, ipc.Ticket(time.time_ns(), used))
            return
        keep = ipc.read(self.run.path, ipc.Stop).keep
        done, step = self.trainer.finished, self.trainer.state.step
        self.trainer.export("latest" if keep == "latest" and not done else "best")
        if not self.stop_signaled():  # if it was, there are only seconds left
            try:
                self._measure_memorization()
            except Exception:  # the model is written, so a missing figure does not fail the run
                _print_traceback()
        self.run.checkpoints.prune([step, self.trainer.state.best_step])
        ipc.remove(self.run.path, ipc.Stop)
        self.run.set_state(
            RunState.DONE if done else RunState.STOPPED, step, self._cause(done, asked)
        )

    def _should_stop(self) -> bool:
        requested = ipc.exists(self.run.path, ipc.Stop)
        time_up = self.first_step is not None and time.monotonic() >= self.deadline
        self.makes_way = self._turn_is_over()
        return requested or time_up or self.stop_signaled() or self.makes_way

    def _turn_is_over(self) -> bool:
        """While others wait."""
        if self.first_step is None or not ipc.exists(self.run.path, ipc.Yield):
            return False
        turn = ipc.read(self.run.path, ipc.Yield).seconds
        return time.monotonic() - self.first_step >= turn

    def _cause(self, done: bool, asked: bool) -> str | None:
        state, steps = self.trainer.state, self.job.config.steps
        if done and state.step < steps:
            return (
                f"Stopped early at step {state.step} of {steps}: the validation loss had not "
                f"improved {state.since_best} times in a row. The best state is kept."
            )
        if done:
            return None
        kept = (
            f"The state at step {state.step} is saved, and the model can be used. Resume continues "
            "from there."
        )
        if asked:
            return f"You stopped it at step {state.step} of {steps}. {kept}"
        if self.stop_signaled():
            return f"The server asked it to stop at step {state.step} of {steps}. {kept}"
        return f"It reached the limit of {self.seconds / 60:.0f} minutes per run. {kept}"

    def _measure_memorization(self) -> None:
        self.heartbeat.phase(RunState.SAMPLING)
        config, model = self.job.config, merged(self.trainer.model).eval()
        texts = [""] * _MEASURED.samples
        sampling = replace(_MEASURED, seed=config.seed)
        tokenizer = self.job.data.tokenizer
        with self.trainer.autocast:
            for piece in generate_pieces(model, tokenizer, config.sample_prompt, sampling):
                texts[piece.sample] += piece.text
        ipc.write(self.run.path, self.text.measure(*texts))


def _limited(job: Job) -> Job:
    """Limit a long validation text to what the plan has time to measure."""
    tokens = ipc.read(job.run.path, ipc.Order).validation_tokens
    return replace(job, data=replace(job.data, validation=job.data.validation[:tokens]))


def _training_text(job: Job) -> TrainingText:
    """The index for measuring memorization, built once."""
    text = open_training_text(job.run.tokens, job.data)
    if text is None:
        text = TrainingText.build(job.data.train, job.data.tokenizer)
        text.save(job.run.tokens)
    return text


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # an orderly PyTorch shutdown takes a second, and the next run is waiting
