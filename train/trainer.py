"""The training step and the loop around it: a generator of typed progress.

Batches and dropout are functions of (seed, step), so a run that went on from a checkpoint is, on a
CPU bit for bit, the run that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from gpt2.device import has_float64
from gpt2.errors import UserError
from gpt2.folder import is_finite, save_model
from gpt2.generate import generate_text
from gpt2.model import GPT2
from gpt2.records import parse_record
from gpt2.sampling import Sampling
from gpt2.score import mean_loss
from train import distributed
from train.checkpoint import (
    Checkpoint,
    copy_optimizers,
    copy_weights,
    fill_optimizers,
    fill_weights,
    raising_disk_full,
    trainable,
)
from train.compute import autocast, is_out_of_memory, recompute_blocks, validation_measure
from train.config import TrainConfig
from train.data import Corpus, Windows
from train.distributed import World
from train.lora import merged, save_adapter
from train.loss import NextTokenLoss
from train.optimizer import build_optimizers, learning_rate, set_learning_rate
from train.run_folder import Progress, RunFolder
from train.states import RunState

_MIN_LOSS_SCALE = 1e-4  # below, float16 gradients would be nothing
_SECONDS_BETWEEN_STATES = 1.0  # replacing a file costs as much as a small model's step


class TrainingFailed(Exception):
    """The run cannot continue; its last checkpoint is good. The text says why and what to do."""


class _NotFinite(Exception):
    """A loss, gradient or weight was NaN or infinite; it was neither stepped nor saved."""


@dataclass
class _State:
    """What changes over a run beside tensors; saved with every checkpoint."""

    step: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    since_best: int = 0  # validations
    rate_scale: float = 1.0  # halved once after a loss that was not finite
    halved: bool = False  # the micro-batch, when memory ran out


def train(
    model: GPT2,
    data: Corpus,
    config: TrainConfig,
    run: RunFolder,
    world: World = World(),  # noqa: B008 - frozen
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Train `model` in place, or resume from the run's newest checkpoint, until the config's steps,
    its patience, or `should_stop`. Everything is in the run folder before it is yielded.

    `TrainingFailed` and `run_folder.DiskFull` leave the last checkpoint good.
    """
    trainer = Trainer(model, data, config, run, world)
    yield from trainer.steps(should_stop)
    trainer.export()
    if world.is_main:
        run.set_state(RunState.DONE if trainer.finished else RunState.STOPPED, trainer.state.step)


class Trainer:
    def __init__(
        self, model: GPT2, data: Corpus, config: TrainConfig, run: RunFolder, world: World
    ) -> None:
        if world.size > config.batch_size:
            raise UserError(f"{world.size} processes need a batch_size of at least {world.size}.")
        if config.shard and config.optimizer == "muon":
            raise UserError("Muon works on whole matrices: it cannot be sharded. Use adamw.")
        if config.shard and config.lora_rank:
            raise UserError("Low-rank updates are small: train them without shard.")
        self.model, self.data, self.config, self.run, self.world = model, data, config, run, world
        self.on_phase: Callable[[RunState], None] = lambda phase: (
            None
        )  # told before each kind of work
        self.state = _State()
        self._told = -math.inf  # when state.json was written
        self.windows = Windows(data.train, config)
        self.autocast = autocast(config, model.device)
        self.measure = validation_measure(config, model.device)
        self.scaler = torch.amp.GradScaler(
            model.device.type, enabled=self.autocast.fast_dtype == torch.float16
        )
        self._first_scale = self.scaler.state_dict()
        if config.gradient_checkpointing:
            recompute_blocks(model)
        self.loss = distributed.wrap(NextTokenLoss(model), world, config.shard)
        self.optimizers = build_optimizers(model, config)
        self.compiled = torch.compile(self.loss) if config.compile else self.loss

    @property
    def micro_batch_size(self) -> int:
        size = self.config.micro_batch_size
        return max(1, size // 2) if self.state.halved else size

    @property
    def finished(self) -> bool:
        return self.state.step >= self.config.steps or self._out_of_patience()

    def steps(self, should_stop: Callable[[], bool]) -> Iterator[Progress]:
        if not self._restore():
            try:
                yield self._measure(Progress(0, None, None, 0.0, None, None), save=True)
            except _NotFinite as error:
                raise TrainingFailed(f"At the start {error}: choose another model.") from None
        while not self.finished:
            if self.world.any(should_stop()):
                try:
                    self._save()
                except _NotFinite as error:
                    yield self._roll_back(str(error), self.state.step)
                return
            try:
                progress = self._step()
            except _NotFinite as error:
                yield self._roll_back(str(error), self.state.step + 1)
                continue
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                yield self._shrink(error)
                continue
            last = self.finished
            try:
                measured = self._measure(
                    progress,
                    evaluate_now=last or _due(self.config.evaluate_every, progress.step),
                    sample_now=last or _due(self.config.sample_every, progress.step),
                    save=last or _due(self.config.save_every, progress.step),
                )
            except _NotFinite as error:
                measured = self._roll_back(str(error), progress.step)
            yield measured

    def _step(self) -> Progress:
        """One optimizer step over a whole batch; nothing is changed if anything is not finite."""
        self.on_phase(RunState.TRAINING)
        config, state = self.config, self.state
        started = time.perf_counter()
        rate = learning_rate(config, state.step) * state.rate_scale
        set_learning_rate(self.optimizers, rate)
        self.model.train()
        rows = self.windows.batch(state.step, self.world.rows(config.batch_size))
        scale = self.scaler.get_scale()
        loss, norm = self._finite_gradients(rows)
        message = self._scale_message(scale)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self._drop_gradients()
        state.step += 1
        speed = config.batch_size * config.block_size / (time.perf_counter() - started)
        return Progress(state.step, loss, None, rate, norm, speed, message)

    def _finite_gradients(self, rows: Tensor) -> tuple[float, float]:
        """The loss, and the norm of the gradients that are left in the parameters.

        In float16 the scaled gradients may overflow: then the same batch is computed again at half
        the scale, so no batch is lost and a step is always an update. Norm and loss are those of
        all ranks, which thus do the same.
        """
        while True:
            loss, norm = self._gradients(rows)
            if math.isfinite(loss) and math.isfinite(norm):
                return loss, norm
            self._drop_gradients()
            scale = self.scaler.get_scale() / 2
            self.scaler.update(scale)  # it forgets these gradients, too
            if not math.isfinite(loss):
                raise _NotFinite("the loss was not finite")
            if not self.scaler.is_enabled():
                raise _NotFinite("the gradient was not finite")
            if scale < _MIN_LOSS_SCALE:
                raise _NotFinite("the gradient was not finite at any scale of the loss")

    def _gradients(self, rows: Tensor) -> tuple[float, float]:
        state, world = self.state, self.world
        torch.manual_seed((self.config.seed * 1_000_003 + state.step) * world.size + world.rank)
        loss = world.sum(self._backward(rows)).item()
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        return loss, self._clip()

    def _scale_message(self, before: float) -> str | None:
        after = self.scaler.get_scale()
        if after >= before:
            return None
        return f"float16 overflowed and the step was computed anew, at a loss scale of {after:g}"

    def _backward(self, rows: Tensor) -> Tensor:
        """Gradients of the mean loss over the whole batch, summed micro-batch by micro-batch.

        Dividing each by the tokens of the batch, not by the number of micro-batches, keeps unequal
        ones exact. DDP averages over the ranks, which the factor of their number undoes.
        """
        tokens = self.config.batch_size * self.config.block_size
        on_cuda = self.model.device.type == "cuda"  # where a copy that is not awaited is safe
        micros = rows.to(self.model.device, non_blocking=on_cuda).split(self.micro_batch_size)
        exact = torch.float64 if has_float64(self.model.device) else torch.float32
        total = torch.zeros((), device=self.model.device, dtype=exact)
        for index, micro in enumerate(micros):
            with distributed.accumulating(self.loss, last=index == len(micros) - 1):
                with self.autocast:
                    loss = self.compiled(micro) / tokens
                self.scaler.scale(loss * self.world.size).backward()
            total += loss.detach().to(exact)
        return total

    def _clip(self) -> float:
        limit = self.config.gradient_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(trainable(self.model).values(), limit)
        return float(distributed.full(norm))

    def _measure(
        self,
        progress: Progress,
        evaluate_now: bool = True,
        sample_now: bool = True,
        save: bool = False,
    ) -> Progress:
        """Evaluation, sample and checkpoint as they fall due; a best is always saved."""
        loss = sample = None
        if evaluate_now or sample_now:
            model = merged(distributed.gathered(self.model)).eval()  # as it is exported
            if evaluate_now:
                self.on_phase(RunState.EVALUATING)
                loss = mean_loss(model, self.data.validation, self.measure)
            if sample_now and self.config.sample_every and self.world.is_main:
                self.on_phase(RunState.SAMPLING)
                with self.autocast:
                    sample = self._sample(model)
        if loss is not None and self._is_best(loss):
            save = True
        return self._record(replace(progress, validation_loss=loss, sample=sample), save)

    def _record(self, progress: Progress, save: bool = False) -> Progress:
        """Log first, then save: a kill between them leaves a line that resuming takes back, never
        a checkpoint whose line is missing."""
        if self.world.is_main:
            self.run.add_progress(progress)
            if save or time.monotonic() - self._told > _SECONDS_BETWEEN_STATES:
                self.run.set_state(RunState.TRAINING, progress.step)
                self._told = time.monotonic()
        if save:
            self._save()
        return progress

    def _is_best(self, loss: float) -> bool:
        state = self.state
        if loss < state.best_loss:
            state.best_loss, state.best_step, state.since_best = loss, state.step, 0
            return True
        state.since_best += 1
        return False

    def _out_of_patience(self) -> bool:
        return bool(self.config.patience) and self.state.since_best >= self.config.patience

    def _sample(self, model: GPT2) -> str:
        sampling = Sampling(max_new_tokens=self.config.sample_tokens, seed=self.config.seed)
        prompt = self.config.sample_prompt
        return "".join(generate_text(model, self.data.tokenizer, prompt, sampling))

    def _roll_back(self, cause: str, step: int) -> Progress:
        """To the last good checkpoint at half the rate, once."""
        if self.state.rate_scale < 1.0:
            raise TrainingFailed(
                f"At step {step} {cause} again, at half the rate too. The last good "
                f"checkpoint is kept. Try a learning rate of {self.config.learning_rate / 10:g}."
            )
        if not self._restore():
            raise TrainingFailed(f"At step {step} {cause}, and no checkpoint is whole.")
        self.state.rate_scale = 0.5
        message = (
            f"At step {step} {cause}. Went back to step {self.state.step} and halved "
            "the learning rate."
        )
        return self._record(Progress(self.state.step, None, None, 0.0, None, None, message))

    def _shrink(self, error: Exception) -> Progress:
        """After running out of memory: half the micro-batch, twice the accumulation, once. Ranks
        cannot: the others are in the middle of exchanging gradients."""
        if not is_out_of_memory(error):
            raise error
        self._drop_gradients()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        size = self.micro_batch_size
        if size == 1 or self.state.halved or self.world.size > 1:
            raise TrainingFailed(
                f"Out of memory at a micro-batch of {size}. Resume with a smaller one or with "
                "gradient_checkpointing, or start anew with a smaller model or block_size."
            ) from None
        self.state.halved = True
        message = (
            f"Out of memory at a micro-batch of {size}. Continuing with {self.micro_batch_size} "
            "and twice the accumulation; results are equivalent."
        )
        return self._record(Progress(self.state.step, None, None, 0.0, None, None, message))

    def _drop_gradients(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _save(self) -> None:
        self.on_phase(RunState.SAVING)
        checkpoint = Checkpoint(
            self.state.step,
            copy_weights(self.model),
            copy_optimizers(self.model, self.optimizers),
            asdict(self.state) | {"scaler": self.scaler.state_dict()},
        )
        # Of sharded weights every rank has the whole, so all of them see the same.
        if not all(is_finite(tensor) for tensor in checkpoint.model.values()):
            raise _NotFinite("the weights were not finite")
        if self.world.is_main:
            self.run.checkpoints.save(checkpoint)
            if self.config.keep == "best":
                self.run.checkpoints.prune(
                    [*self.run.checkpoints.steps()[-2:], self.state.best_step]
                )
        self.world.barrier()

    def _restore(self) -> bool:
        """Go to the newest good checkpoint, if there is one."""
        saved = self.run.checkpoints.newest()
        if saved is None:
            return False
        self._load_weights(saved)
        fill_optimizers(self.model, self.optimizers, saved.optimizer)
        # There is no scale where the run has trained on a device with another number format.
        self.scaler.load_state_dict(saved.trainer.get("scaler") or self._first_scale)
        self.state = parse_record(_State, saved.trainer)
        if self.world.is_main:
            self.run.forget_after(saved.step)
        return True

    def _load_weights(self, saved: Checkpoint) -> None:
        try:
            fill_weights(self.model, saved.model)
        except KeyError:
            raise UserError(f"{self.run.path} holds checkpoints of another model.") from None

    def export(self, keep: str = "best") -> None:
        """Write model/ from the best checkpoint, or from the last where nothing was validated or
        `keep` is "latest"."""
        self.on_phase(RunState.SAVING)
        validated = math.isfinite(self.state.best_loss) and keep == "best"
        best = self.state.best_step if validated else self.state.step
        if best != self.state.step and self.run.checkpoints.verify(best):
            self._load_weights(self.run.checkpoints.load(best))
        model = merged(distributed.gathered(self.model))
        if self.world.is_main:
            needed = f"the model needs about {model.parameter_count() * 4 / 1e6:,.0f} MB"
            with raising_disk_full(self.run.path, needed):
                save_model(self.run.model, model, self.data.tokenizer)
                if self.config.lora_rank:
                    save_adapter(self.run.path / "adapter", self.model, self.config)
        self.world.barrier()


def _due(every: int, step: int) -> bool:
    return bool(every) and step % every == 0
