"""The Fine-tune journey as a visitor takes it, and how it affects those who write meanwhile.

    python benchmarks/finetune.py              needs Chromium and requirements-dev.txt

Journey: the app is started as a program; a real Chromium opens the page, takes the sample text,
presses Start with the Taste preset, waits for the end, compares, downloads. Wall clock of each.
Guests: 8 clients generate at once, for a while with nothing else running and for a while during a
run; time to the first token, medians of all requests, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from gradio_client import Client
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gpt2.temporary import temp_folder

SAMPLE = ROOT / "ui" / "assets" / "sample_text.txt"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/finetune.py")
    parser.add_argument("--guests", type=int, default=8)
    parser.add_argument(
        "--seconds", type=float, default=15, help="of generating, idle and training"
    )
    options = parser.parse_args()
    with temp_folder() as runs:
        program, url = start(runs)
        try:
            journey(url)
            print(json.dumps(compare_guests(url, options.guests, options.seconds), indent=2))
        finally:
            program.terminate()
            program.wait(20)


def start(runs: Path) -> tuple[subprocess.Popen, str]:
    """The app on a free port, ready to answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", "--model", "storyteller", "--port", str(port)]
    program = subprocess.Popen([*command, "--runs", runs], cwd=ROOT, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=2)
            return program, url
        except OSError:
            time.sleep(0.1)
    program.kill()
    raise SystemExit("the app did not start")


def journey(url: str) -> None:
    """Take it and print the seconds for each part."""
    from tests.browser import FLAGS, find_chromium

    with sync_playwright() as playwright:
        path = find_chromium()
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(240_000)
        began = last = time.perf_counter()
        for name, part in PARTS.items():
            part(page, url)
            print(f"{name:32}{time.perf_counter() - last:7.1f} s", flush=True)
            last = time.perf_counter()
        print(f"{'the whole journey':32}{last - began:7.1f} s")
        print(page.locator("#run .verdict").inner_text(), flush=True)
        browser.close()


def _open(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("tab", name="Fine-tune").click()


def _take_text(page: Page, url: str) -> None:
    page.locator("#use-sample").click()
    page.locator("#feasible b").wait_for()


def _train(page: Page, url: str) -> None:
    page.locator("#start").click()
    page.locator("#run .pill.good").wait_for()


def _compare(page: Page, url: str) -> None:
    page.locator("#compare-prompt").locator("input, textarea").fill("It was a cold morning")
    page.locator("#compare").click()
    page.locator("#compared .prompt").nth(1).get_by_text("cold").wait_for()


def _download(page: Page, url: str) -> None:
    with page.expect_download() as download:
        page.locator("#download").click()
    download.value.path()


PARTS = {
    "open the page": _open,
    "sample text, card and plan": _take_text,
    "train, Taste": _train,
    "compare": _compare,
    "download": _download,
}


def compare_guests(url: str, guests: int, seconds: float) -> dict[str, object]:
    """Times to the first token with the trainer at rest and at work."""
    idle = generate_together(url, guests, seconds)
    client = Client(url, verbose=False)
    settings = {"steps": 20_000, "sample_every": 0}
    text = SAMPLE.read_text(encoding="utf-8")
    run = client.predict(text, settings=settings, api_name="/start_run")
    while client.predict(run, api_name="/run_status")["step"] < 5:
        time.sleep(0.2)
    training = generate_together(url, guests, seconds)
    alive = client.predict(run, api_name="/run_status")["state"]
    client.predict(run, "latest", api_name="/stop_run")
    return {
        "idle": idle,
        "training": training,
        "the run meanwhile": alive,
        "first token, training / idle": round(training["median"] / idle["median"], 2),
    }


def generate_together(url: str, guests: int, seconds: float) -> dict[str, float]:
    times, errors = [], []
    until = time.perf_counter() + seconds

    def guest() -> None:
        client = Client(url, verbose=False)
        while time.perf_counter() < until:
            began = time.perf_counter()
            try:
                job = client.submit("Once upon a time", max_new_tokens=40, api_name="/generate")
                next(iter(job))
                times.append(time.perf_counter() - began)
                job.result()
            except Exception as error:
                errors.append(repr(error))

    threads = [threading.Thread(target=guest) for _ in range(guests)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return {
        "requests": len(times),
        "errors": len(errors),
        "median": round(statistics.median(times), 3),
        "p95": round(statistics.quantiles(times, n=20)[-1], 3),
    }


if __name__ == "__main__":
    main()
