"""The Write tab in a real browser, timed from the click of its button."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from socket import socket

ROOT = Path(__file__).resolve().parents[1]
# Resolves with the seconds from the click to the first text after the prompt.
_PRESS = """prompt => new Promise(resolve => {
    const page = document.querySelector('#passage-0');
    const before = page?.innerText ?? '';
    const started = performance.now();
    const timer = setInterval(() => {
        const now = document.querySelector('#passage-0')?.innerText ?? '';
        if (now !== before && now.trim().length > prompt.length) {
            clearInterval(timer);
            resolve((performance.now() - started) / 1000);
        }
    }, 4);
    document.querySelector('#generate').click();
})"""


def seconds_to_first_words(prompt: str, presses: int) -> list[float]:
    """The seconds for each press of Generate, one after another, on a loaded page."""
    from playwright.sync_api import sync_playwright

    from tests.browser import FLAGS, find_chromium

    with _app() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        page = browser.new_page()
        page.goto(url)
        page.locator("#prompt textarea").fill(prompt)
        times = []
        for _ in range(presses):
            page.locator("#generate").wait_for()
            times.append(page.evaluate(_PRESS, prompt))
            page.locator("#retry:enabled").wait_for()
            page.wait_for_timeout(300)
        browser.close()
    return times


@contextmanager
def _app():
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", "--model", "storyteller", "--port", str(port)]
    app = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(url, timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        app.terminate()
        app.wait()
