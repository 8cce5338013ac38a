"""A picture of the page: python -m tools.screenshot FILE [--dark] [--narrow] [--tune PERCENT]

For the README: the storyteller continues an opening with a fixed seed, or, with --tune, learns the
sample text and is captured at that percentage of the run (100: when it is done).
"""

from __future__ import annotations

import argparse

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.browser import FLAGS, find_chromium
from tests.support.app_server import serve
from tests.ui.test_page import choose
from ui.write.view import STORY_OPENINGS

REACHED = """(percent) => {
  const bar = document.querySelector("#run .bar");
  return bar && 100 * bar.ariaValueNow >= percent * bar.ariaValueMax;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.screenshot")
    parser.add_argument("file", help="a .png")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--narrow", action="store_true", help="as wide as a phone")
    parser.add_argument("--tune", type=int, metavar="PERCENT", help="the Fine-tune tab in mid-run")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    size = {"width": 390, "height": 844} if options.narrow else {"width": 1280, "height": 900}
    scheme = "dark" if options.dark else "light"
    with (
        pytest.MonkeyPatch.context() as patch,
        serve("storyteller", patch) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        scale = 1.5 if options.tune is not None else 2
        page = browser.new_page(viewport=size, color_scheme=scheme, device_scale_factor=scale)
        page.goto(server.url)
        if options.tune is None:
            write_story(page, options.samples, options.seed)
        else:
            learn_sample(page, options.tune)
        page.screenshot(path=options.file, full_page=True)
        browser.close()


def write_story(page: Page, samples: int, seed: int) -> None:
    page.locator("#prompt textarea").fill(STORY_OPENINGS[0])
    choose(page, "Seed", seed)
    choose(page, "Samples", samples)
    choose(page, "Length", 140)
    page.locator("#settings > button").click()
    page.locator("#generate").click()
    page.locator("#status").get_by_text("stopped:").wait_for()
    page.locator("#retry:enabled").wait_for()
    page.wait_for_timeout(400)


def learn_sample(page: Page, percent: int) -> None:
    page.get_by_role("tab", name="Fine-tune").click()
    page.locator("#use-sample").click()
    page.locator("#feasible b").wait_for(timeout=120_000)
    page.locator("#start").click()
    if percent >= 100:
        page.locator("#run .pill.good").wait_for(timeout=280_000)
    else:
        page.wait_for_function(REACHED, arg=percent, timeout=280_000)
    page.mouse.move(0, 0)
    page.wait_for_timeout(700)


if __name__ == "__main__":
    main()
