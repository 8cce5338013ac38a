"""What one server grants to all its visitors together."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2.machine import core_count, machine_memory
from gpt2.settings import check, setting


@dataclass(frozen=True)
class Limits:
    """The defaults suit a Space of 2 cores, 16 GB and 50 GB of disk."""

    running: int = setting(1, "runs at a time, for all visitors together", low=0)
    running_per_owner: int = setting(1, "runs at a time, per visitor", low=0)
    waiting_per_owner: int = setting(1, "waiting runs per visitor", low=0)
    waiting: int = setting(40, "waiting runs, for all visitors together", low=0)
    unended_per_client: int = setting(
        8, "runs that have not ended, per address: a class behind one router", low=0
    )
    text_bytes: int = setting(20_000_000, "of a single text", low=0)
    disk_bytes: int = setting(
        20_000_000_000, "all runs together, including what they may still grow to", low=0
    )
    client_disk_bytes: int = setting(
        6_000_000_000, "runs of one address, as far as it is known since the start", low=0
    )
    free_disk_bytes: int = setting(2_000_000_000, "always kept free on the disk", low=0)
    memory_share: float = setting(0.6, "of the machine's memory, for one run", low=0.0)
    run_seconds: float = setting(
        3 * 3600.0, "per run; then it stops and keeps what it has", low=0.0
    )
    turn_seconds: float = setting(
        600.0, "after which a run makes way for one that waits, to go on after it", low=0.0
    )
    expire_seconds: float = setting(
        7 * 86_400.0, "how long a run is kept after it ended, whoever looks at it", low=0.0
    )
    download_seconds: float = setting(
        3600.0, "how long a zip or an exported checkpoint is kept", low=0.0
    )
    # A worker has lower priority and never spins, so it hardly slows generation
    # (benchmarks/while_training.py).
    threads: int = setting(core_count, "of the training process", low=0)
    device: str = setting("auto", "of the training process: what `choose_device` takes")
    lasting: bool = setting(True, "whether runs are still there when the server is started again")

    def __post_init__(self) -> None:
        check(self)

    @property
    def run_memory_bytes(self) -> float:
        """What one run may use."""
        return machine_memory() * self.memory_share
