"""The browser for the page tests: python tests/browser.py finds a Chromium, or installs one.

It takes Debian's package if apt-get may be used, else Playwright's own build, and says in one line
what to do if neither is available. Without a browser, the page tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MISSING = "There is no Chromium. Install one (Debian: apt-get install chromium), or Google Chrome."


def find_chromium() -> str | None:
    """The path of the system's Chromium, else of the one that Playwright has installed."""
    if found := next(filter(None, map(shutil.which, NAMES)), None):
        return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return str(own) if own.exists() else None


def install_chromium() -> None:
    """Try Debian's package, then Playwright's build; each reports its own failure."""
    sudo = [] if os.name != "posix" or os.geteuid() == 0 else ["sudo", "-n"]
    ways = []
    if shutil.which("apt-get") and (not sudo or shutil.which("sudo")):
        ways.append([*sudo, "apt-get", "update", "-qq"])
        ways.append([*sudo, "apt-get", "install", "-y", "-qq", "chromium"])
    for command in ways:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode:
            break
    if find_chromium() is None:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"])


def main() -> int:
    """Always 0: without a browser, the other tests still run."""
    if find_chromium() is None:
        install_chromium()
    print(find_chromium() or f"{MISSING} Until then the tests of the page are skipped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
