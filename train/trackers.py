"""Progress to TensorBoard or trackio, if installed and asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict

from gpt2.errors import UserError
from train.job import Job
from train.run_folder import Progress

FIGURES = ("loss", "validation_loss", "learning_rate", "gradient_norm", "tokens_per_second")


def track(progress: Iterator[Progress], tracker: str | None, job: Job) -> Iterator[Progress]:
    """Pass `progress` on and log its figures along the way."""
    if tracker is None:
        yield from progress
        return
    log, finish = {"tensorboard": _tensorboard, "trackio": _trackio}[tracker](job)
    try:
        for item in progress:
            values = {name: value for name, value in asdict(item).items() if name in FIGURES}
            log({name: value for name, value in values.items() if value is not None}, item.step)
            yield item
    finally:
        finish()


def _tensorboard(job: Job) -> tuple[Callable[[dict, int], None], Callable[[], None]]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("TensorBoard is not installed: pip install tensorboard") from None
    writer = SummaryWriter(job.run.path / "tensorboard")

    def log(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return log, writer.close


def _trackio(job: Job) -> tuple[Callable[[dict, int], None], Callable[[], None]]:
    try:
        import trackio
    except ImportError:
        raise UserError("trackio is not installed: pip install trackio") from None
    trackio.init(project="gpt2", name=job.run.path.name, config=asdict(job.config))
    return lambda values, step: trackio.log(values, step=step), trackio.finish
