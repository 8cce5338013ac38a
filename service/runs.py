"""Many visitors' runs on one machine: ordered, queued, watched, kept, and forgotten in time."""

from __future__ import annotations

import hmac
import os
import shutil
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from gpt2.errors import UserError
from gpt2.files import folder_bytes, is_disk_full, list_folder
from gpt2.settings import Setting
from service import ipc
from service.exports import export_checkpoint, parse_step, zip_folder
from service.ids import digest, find_id, is_id, new_id
from service.limits import Limits
from service.plan import spare_samples
from service.queue import Entry, Queue
from service.request import RunRequest
from service.status import RunStatus, StatusReader, damaged_status
from service.storage import DOWNLOADS, PENDING, Housekeeping, claim
from service.submit import create_run
from service.zero_gpu import explaining_refusals, train_on_gpu
from train.job import stretch_notes
from train.memorization import TrainingTexts
from train.run_folder import Progress, RunFolder
from train.states import RunState

_TICK_SECONDS = 0.3
_SWEEP_SECONDS = 60.0
_READERS = 64  # runs whose logs are kept in memory
_MAX_STEPS = 200_000
_MAX_SAMPLE = 20_000  # characters
_STEPS = Setting("to train on", name="steps", kind="int", low=1, high=_MAX_STEPS)
_KEEP = Setting("the state to keep", name="keep", kind="str", choices=ipc.KEEPS)


class Runs:
    """All runs of one server, each a folder under `folder` named by its id, 128 random bits in hex.

    The id is the capability: who has it may look, stop, resume, download and discard. Everything
    is on disk; a new `Runs` over the same folder takes it over. Safe to use from any thread.
    Every method raises `UserError` for what is not a known id or cannot be done now.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        downloads: Path | None = None,
    ) -> None:
        """Zips are made in `downloads`, a folder below `folder` if it is left out. `UserError` when
        another server uses `folder`."""
        self.folder, self.limits = Path(folder).absolute(), limits
        self.folder.mkdir(parents=True, exist_ok=True)
        self._claim = claim(self.folder)
        self._queue = Queue(limits)
        self._downloads = downloads or self.folder / DOWNLOADS
        self._house = Housekeeping(self.folder, self._downloads, limits, self._queue)
        self._guard = self._queue.guard
        self._coming: list[Entry] = []  # the runs that are being tokenized
        self._readers: OrderedDict[str, StatusReader] = OrderedDict()
        self._texts = TrainingTexts()
        for path in list_folder(self.folder):
            if is_id(path.name) and os.path.isdir(path):
                self._queue.add(Entry(path.name, path, ipc.read(path, ipc.Order).owner))
        self._closed = threading.Event()
        self._swept = 0.0
        self._thread = threading.Thread(target=self._watch, name="runs", daemon=True)
        self._thread.start()

    def create(self, request: RunRequest, owner: object, client: str = "") -> str:
        """Tokenize the request's text, delete the upload, queue the run; returns its id. Takes as
        long as tokenizing: seconds for 20 MB. `client` is the address that it comes from."""
        kept = digest(owner)
        if kept is None:
            raise UserError("Your browser's id is not valid. Reload the page to get a new one.")
        if not isinstance(request, RunRequest):
            raise UserError("A run needs a request.")
        run_id = new_id()
        entry = Entry(run_id, self.folder / run_id, kept, client)
        with self._guard:
            self._queue.refuse_more(kept, client, self._coming)
            self._coming.append(entry)
        try:
            self._create(request, entry)
        except Exception as error:
            if not is_disk_full(error):
                raise
            raise UserError(
                "The server's disk is full, so the run could not be started. Try again later."
            ) from None
        finally:
            with self._guard:
                self._coming.remove(entry)
        return run_id

    def _create(self, request: RunRequest, entry: Entry) -> None:
        aside = self.folder / f"{PENDING}{entry.id}"

        def require_room(needed: int) -> None:
            self._house.require_room(needed, entry.client)

        create_run(request, aside, entry.path, entry.owner, self.limits, require_room)
        with self._guard:
            aside.rename(entry.path)
            self._queue.entries[entry.id] = entry
            self._queue.enqueue(entry)
            self._queue.tick()

    def status(self, run_id: object) -> RunStatus:
        """The run now. Cheap: it may be asked for every second."""
        entry = self._find(run_id)
        with self._guard:
            state = self._state(entry)
            place, wait = self._queue.place(entry) if state is RunState.QUEUED else (None, None)
            reader = self._reader(entry)
        try:
            status = reader.read(entry.id, state)
        except (UserError, OSError):
            self._find(run_id)  # discarded in this moment: say so
            status = damaged_status(entry.id, ipc.read(entry.path, ipc.Order))
        expires = self._house.expires(entry) if state.is_ended else None
        return replace(status, place=place, wait_seconds=wait, expires=expires)

    def _reader(self, entry: Entry) -> StatusReader:
        reader = self._readers.pop(entry.id, None) or StatusReader(entry.path)
        self._readers[entry.id] = reader
        if len(self._readers) > _READERS:
            self._readers.popitem(last=False)
        return reader

    def runs_of(self, owner: object) -> tuple[str, ...]:
        """The ids of a visitor's runs, newest first; none for anything unknown."""
        return tuple(entry.id for entry in self._entries_of(owner))

    def stop(self, run_id: object, keep: object = "best") -> None:
        """Ask a run to end; its model is then its "best" or "latest" state. Returns at once: the
        state becomes "stopped" when the worker has saved. A queued run leaves the queue; one that
        has trained before, and an interrupted one, take a turn to make their model."""
        _KEEP.parse(keep)
        entry = self._find(run_id)
        with self._guard:
            run, state = RunFolder(entry.path), self._state(entry)
            if state.is_ended and state is not RunState.INTERRUPTED:
                raise UserError("This run has ended already.")
            if state is RunState.QUEUED and not run.checkpoints.steps():
                self._queue.withdraw(entry)
                message = "You took it out of the queue. Resume puts it back."
                run.set_state(RunState.STOPPED, cause=message)
                return
            ipc.write(entry.path, ipc.Stop(keep))
            if state is RunState.INTERRUPTED:
                self._queue.settle(entry)
            if not state.is_running:
                self._queue.enqueue(entry, first=True)

    def resume(self, run_id: object) -> None:
        """Queue a stopped, failed or interrupted run again; it continues exactly where it was."""
        entry = self._find(run_id)
        with self._guard:
            state = self._require_ended(entry)
            if state is RunState.DONE:
                raise UserError("This run is done. Continue it for more steps instead.")
            self._go_on(entry)

    def extend(self, run_id: object, steps: object) -> None:
        """Queue an ended run for `steps` more steps."""
        more = _STEPS.parse(steps)
        entry = self._find(run_id)
        with self._guard:
            self._require_ended(entry)
            run = RunFolder(entry.path)
            total = max([0, *run.checkpoints.steps()]) + more
            if total > _MAX_STEPS:
                raise UserError(f"A run may have {_MAX_STEPS:,} steps in all.")
            self._refuse_more(entry)
            described = run.description()
            # Who asks for more steps wants them, also where patience had ended the run.
            after = spare_samples(replace(described.train, steps=total, patience=0))
            notes = (*described.notes, *stretch_notes(described.train, after, total - more))
            run.describe(replace(described, train=after, notes=notes))
            self._go_on(entry)

    def slice(self, run_id: object, seconds: float) -> Iterator[Progress]:
        """Train a waiting or interrupted run in this process for so many seconds, where a visitor's
        request is all the time there is (`Limits.running` is 0 there)."""
        entry = self._find(run_id)
        with self._guard:
            state = self._state(entry)
            if state not in (RunState.QUEUED, RunState.INTERRUPTED):
                raise UserError(f"This run is {state} already.")
            self._queue.withdraw(entry)
        with explaining_refusals():
            yield from train_on_gpu(str(entry.path), seconds, self.limits.device)

    def discard(self, run_id: object) -> None:
        """Stop the run and delete all of it."""
        self._delete(self._find(run_id))

    def delete_owner(self, owner: object) -> int:
        """Discard all runs of a visitor; returns how many."""
        entries = self._entries_of(owner)
        for entry in entries:
            self._delete(entry)
        return len(entries)

    def model_folder(self, run_id: object, step: object = None) -> Path:
        """A model folder of the result, or of the checkpoint at `step`, made on demand."""
        entry = self._find(run_id)
        run = RunFolder(entry.path)
        if step is None:
            with self._guard:
                state = self._state(entry)
            if state.is_active or not run.has_result:
                raise UserError(
                    "This run has no result yet. Choose one of its checkpoints, or stop it first."
                )
            return run.model
        step = parse_step(step, run)
        self._house.require_room(folder_bytes(run.path / "checkpoints" / f"step-{step}"))
        return export_checkpoint(run, step)

    def base_folder(self, run_id: object) -> Path:
        """The model folder that the run began from."""
        base = RunFolder(self._find(run_id).path).description().base
        if base is None or not os.path.isfile(os.path.join(base, "config.json")):
            raise UserError("The model that this run began from is not on this machine any more.")
        return Path(base)

    def zip_model(self, run_id: object, step: object = None) -> Path:
        """A zip of that folder in a random directory; deleted after an hour, and with its run."""
        entry = self._find(run_id)
        folder = self.model_folder(entry.id, step)
        self._house.require_room(folder_bytes(folder))
        model = ipc.read(entry.path, ipc.Order).model
        name = f"{model or 'gpt2'}-tuned{'' if step is None else f'-step-{step}'}"
        return zip_folder(folder, self._downloads, _tag(entry), name)

    def memorized_spans(self, run_id: object, sample: object) -> list[tuple[str, bool]]:
        """A text in pieces: (text, whether it stands word for word in the run's training text)."""
        entry = self._find(run_id)
        if type(sample) is not str or len(sample) > _MAX_SAMPLE:
            raise UserError(f"A sample is a text of at most {_MAX_SAMPLE:,} characters.")
        try:
            text = self._texts.get(entry.path / "tokens")
        except UserError:  # damaged
            text = None
        # Its index is made when it first trains.
        return [(sample, False)] if text is None else text.spans(sample)

    def path(self, run_id: object) -> Path:
        """The folder of a run."""
        return self._find(run_id).path

    def counts(self) -> dict[str, int]:
        """How many runs wait, train, and have ended, as the queue knows it: no disk is read."""
        with self._guard:
            waiting, running = len(self._queue.waiting()), len(self._queue.running())
            ended = len(self._queue.entries) - waiting - running
        return {"waiting": waiting, "running": running, "ended": ended}

    def discard_all(self) -> None:
        """Discard every run of this server."""
        for entry in self._all():
            self._delete(entry)

    def close(self, kill: bool = False) -> None:
        """Stop watching. Workers keep going, for a later `Runs` to find them, unless `kill`."""
        self._closed.set()
        self._thread.join()
        if kill:
            for entry in self._all():
                self._queue.kill(entry)
        self._claim.close()

    def _find(self, run_id: object) -> Entry:
        """Nothing that was sent becomes a path before it is a known id."""
        with self._guard:
            found = find_id(run_id, self._queue.entries)
            return self._queue.entries[found] if found else _unknown()

    def _all(self) -> list[Entry]:
        with self._guard:
            return list(self._queue.entries.values())

    def _entries_of(self, owner: object) -> list[Entry]:
        kept = digest(owner)
        own = [e for e in self._all() if kept and hmac.compare_digest(e.owner, kept)]
        return sorted(own, key=lambda e: -ipc.read(e.path, ipc.Order).created)

    def _state(self, entry: Entry) -> RunState:
        if ipc.lock_owner(entry.path) is not None:
            phase = ipc.read(entry.path, ipc.Beat).phase
            return phase if phase.is_running else RunState.PREPARING
        if entry.ticket is not None and ipc.exists(entry.path, ipc.Ticket):
            # Its process was started but does not hold the run yet: what it wrote is of before.
            return RunState.PREPARING if self._queue.is_running(entry) else RunState.QUEUED
        recorded = RunFolder(entry.path).state().state
        if recorded.is_ended:
            return recorded
        # Alive, although it held nothing a moment ago: it has just begun.
        return RunState.PREPARING if entry.is_running else RunState.INTERRUPTED

    def _require_ended(self, entry: Entry) -> RunState:
        state = self._state(entry)
        if state.is_active:
            raise UserError(f"This run is {state} already.")
        self._queue.settle(entry)
        return state

    def _go_on(self, entry: Entry) -> None:
        self._refuse_more(entry)
        ipc.remove(entry.path, ipc.Stop)
        self._queue.enqueue(entry)
        self._queue.tick()

    def _refuse_more(self, entry: Entry) -> None:
        self._queue.refuse_more(entry.owner, entry.client, self._coming)

    def _delete(self, entry: Entry) -> None:
        with self._guard:
            self._queue.withdraw(entry)
            self._queue.kill(entry)
            self._queue.forget(entry)
            self._readers.pop(entry.id, None)
            self._texts.forget(entry.path / "tokens")
        self._house.delete(entry.path)
        for made in self._downloads.glob(f"{_tag(entry)}-*"):
            shutil.rmtree(made, ignore_errors=True)

    def _watch(self) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            try:
                with self._guard:
                    self._queue.tick()
                if time.monotonic() - self._swept > _SWEEP_SECONDS:
                    self._swept = time.monotonic()
                    self._house.sweep(self._delete)
            except Exception:  # the next look may succeed; the queue must not stand still
                traceback.print_exc()


def _tag(entry: Entry) -> str:
    """How the names of a run's zips begin: the id itself would be a key to the run."""
    return digest(entry.id)[:32]


def _unknown() -> NoReturn:
    raise UserError("There is no such run, or not anymore. Check its link; runs expire over time.")
