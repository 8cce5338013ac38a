"""Generation while a run trains: time to first token and speed, idle and next to a worker.

    python benchmarks/while_training.py --text my.txt --threads 1 2

The server's engine, with 1 and 8 clients; the worker trains the bundled model on the text. Each
keeps a share: the run its steps a second, the clients their tokens.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from gpt2.hub.resolve import STORYTELLER_FOLDER
from gpt2.inference import load_for_inference
from gpt2.sampling import Sampling
from gpt2.temporary import temp_folder
from service.engine import Engine
from service.ids import new_id
from service.limits import Limits
from service.request import RunRequest
from service.runs import Runs

PROMPT = "Once upon a time, in a house by the sea,"
TOKENS = 100
SETTINGS = {"steps": 5000, "batch_size": 2, "micro_batch_size": 2}
QUIET = {"evaluate_every": 0, "sample_every": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--texts", type=int, default=5, help="texts per client")
    options = parser.parse_args()
    server = Server()
    print(f"{torch.get_num_threads()} threads generate, torch {torch.__version__}")
    server.measure(1, 3)
    for clients in (1, 8):
        print("idle:", server.measure(clients, options.texts), flush=True)
    for threads in options.threads:
        beside_a_worker(server, options, threads)


def beside_a_worker(server: Server, options: argparse.Namespace, threads: int) -> None:
    text = options.text.read_text(encoding="utf-8")[:300_000]
    order = RunRequest(
        str(STORYTELLER_FOLDER), text=text, changes=tuple((SETTINGS | QUIET).items())
    )
    with temp_folder() as folder:
        runs = Runs(folder, Limits(threads=threads))
        run_id = runs.create(order, new_id())
        while runs.status(run_id).step < 5:
            time.sleep(0.2)
        try:
            for clients in (0, 1, 8):
                before, started = runs.status(run_id).step, time.perf_counter()
                said = server.measure(clients, options.texts)
                pace = (runs.status(run_id).step - before) / (time.perf_counter() - started)
                print(f"worker of {threads} threads, {pace:.2f} steps/s: {said}", flush=True)
        finally:
            runs.discard(run_id)
            runs.close()


class Server:
    """The engine that the page's generations go through."""

    def __init__(self) -> None:
        self.engine = Engine(*load_for_inference("storyteller"))

    def measure(self, clients: int, texts: int) -> str:
        if not clients:
            time.sleep(5)
            return "nobody generates"
        found: list[tuple[float, float]] = []
        threads = [
            threading.Thread(target=self._client, args=(found, texts, number))
            for number in range(clients)
        ]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        together = TOKENS * len(found) / (time.perf_counter() - begun)
        first = sorted(seconds * 1e3 for seconds, _ in found)
        speed = median(speed for _, speed in found)
        return (
            f"{clients} clients, first token p50 {median(first):.0f} ms, "
            f"p95 {first[int(0.95 * (len(first) - 1))]:.0f} ms, {speed:.0f} tok/s each, "
            f"{together:.0f} together"
        )

    def _client(self, found: list, texts: int, number: int) -> None:
        for index in range(texts):
            sampling = Sampling(
                max_new_tokens=TOKENS, seed=100 * number + index, stop_at_end_of_text=False
            )
            asked = time.perf_counter()
            with self.engine.submit(PROMPT, sampling, number) as stream:
                next(stream)
                first = time.perf_counter()
                tokens = sum(1 for _ in stream)
            found.append((first - asked, tokens / (time.perf_counter() - first)))


if __name__ == "__main__":
    main()
