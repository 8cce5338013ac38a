"""The Fine-tune tab as a visitor meets it: a real Chromium, a real server, real training.

The model is a toy and the runs have a few steps; only the time per step is given.
"""

from __future__ import annotations

import os
import re
import signal
import zipfile
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Locator, Page, expect

from gpt2.folder import load_model
from gpt2.temporary import Temporary, temp_part
from service import ipc
from tests.support.pages import contrast, watch
from tests.support.toy_runs import TEXT

QUICK = {"Steps": 8, "Batch size": 2, "Block size": 16, "Learning rate": "3e-3"}
LONG = QUICK | {"Steps": 20_000, "Evaluate every": 50, "Sample every": 0}
ENDED = re.compile("Done|Stopped")


@pytest.fixture(scope="module")
def server(toy_server):
    return toy_server


@pytest.fixture
def open_tab(new_context, server):
    """Opens the tab as a new visitor, or another page of one; nothing may go wrong unseen."""
    contexts, troubles = [], []

    def open_at(width: int = 1280, query: str = "", beside: Page | None = None, **options) -> Page:
        if beside is None:
            size = {"width": width, "height": 900}
            contexts.append(new_context(viewport=size, **options))
            contexts[-1].set_default_timeout(30_000)
        page = watch((beside.context if beside else contexts[-1]).new_page(), troubles)
        page.goto(server.url + query)
        page.get_by_role("tab", name="Fine-tune").click()
        expect(page.locator("#start")).to_be_visible()
        return page

    yield open_at
    seen = list(troubles)  # closing cuts requests off, which gradio logs as errors
    for context in contexts:
        context.close()
    server.runs.discard_all()
    assert seen == []


def start(page: Page, text: str | None = TEXT, settings: dict = QUICK) -> str:
    """Order a run and wait until it is on the page; its id."""
    if text is not None:
        page.locator("#tune-text textarea").fill(text)
    expect(page.locator("#text-card .facts")).to_be_visible()
    if page.locator("#field-steps").is_hidden():
        page.locator("#advanced > button").click()
    fill_fields(page, settings)
    page.locator("#start").click()
    expect(page.locator("#run")).to_be_visible(timeout=20_000)
    page.wait_for_function("location.search.startsWith('?run=')")
    return page.url.split("run=")[1]


def fill_fields(page: Page, settings: dict) -> None:
    """Until the plan says that they were taken: a field filled before its script has run shows the
    value and forgets it."""
    for _ in range(10):
        for label, value in settings.items():
            field(page, label).fill(str(value))
            field(page, label).blur()
        try:
            planned = page.locator("#feasible")
            expect(planned).to_contain_text(f"{settings['Steps']:,} steps", timeout=6_000)
            return
        except AssertionError:
            continue
    pytest.fail("The fields did not take their values.")


def field(page: Page, title: str) -> Locator:
    """A control of the Advanced section."""
    name = title.lower().replace(" ", "-")
    return page.locator(f"#field-{name}").locator("input, textarea")


def upload(page: Page, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("#upload").click()
    chooser.value.set_files(file)


def folder_of(server, run: str) -> Path:
    return server.runs.path(run)


def pill(page: Page) -> Locator:
    return page.locator("#run .pill")


def finish(page: Page) -> None:
    expect(pill(page)).to_have_text(ENDED, timeout=60_000)


def steps_done(page: Page) -> int:
    return int(page.locator("#run .bar").first.get_attribute("aria-valuenow"))


def wait_for_steps(page: Page, count: int) -> None:
    page.wait_for_function(
        "count => document.querySelector('#run .bar')?.ariaValueNow >= count",
        arg=count,
        timeout=60_000,
    )


# ---- the journey ----------------------------------------------------------------------------


def test_from_an_upload_to_a_model_that_transformers_opens(open_tab, server, tmp_path):
    page = open_tab()
    file = tmp_path / "diary.txt"
    file.write_text(TEXT)
    upload(page, file)
    expect(page.locator("#text-card .facts")).to_contain_text("diary.txt")
    expect(page.locator("#text-card .facts")).to_contain_text(f"{len(TEXT):,} characters")
    expect(page.locator("#tune-text")).to_be_hidden()
    run = start(page, None)
    expect(page.locator("#run-link")).to_contain_text("You can close this tab")
    finish(page)
    kept = [path for path in server.runs.folder.rglob("*") if path.is_file()]
    assert not [p for p in kept if TEXT[:60].encode() in p.read_bytes()], "the text is gone"

    expect(page.locator("#run .line")).to_have_text("step 8/8")
    assert page.locator("#timeline li").count() >= 2
    expect(page.locator("#timeline li .step").first).to_have_text("Before")
    chart = page.locator("#run-chart figure")
    expect(chart).to_have_attribute("aria-label", re.compile(r"Validation loss .* at step 0, .* 8"))
    expect(page.locator("#compared section")).to_have_count(2)
    expect(page.locator("#meter")).to_contain_text("of what it writes")

    page.locator("#compare-prompt textarea, #compare-prompt input").first.fill("It is")
    page.locator("#compare").click()
    expect(page.locator("#compared .prompt").nth(1)).to_have_text("It is", timeout=20_000)
    expect(page.locator("#compare")).to_be_enabled()

    with page.expect_download() as download:
        page.locator("#download").click()
    check_download(Path(download.value.path()), download.value.suggested_filename, tmp_path)
    assert server.runs.status(run).state == "done"


def check_download(path: Path, name: str, tmp_path: Path) -> None:
    from transformers import GPT2LMHeadModel

    assert re.fullmatch(r"toy-tuned-step-\d+\.zip", name)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    ours = load_model(folder, "cpu")[0].eval()
    theirs = GPT2LMHeadModel.from_pretrained(folder).eval()
    ids = torch.arange(30)[None] * 7 % 257
    with torch.no_grad():
        assert torch.allclose(ours(ids), theirs(ids).logits, atol=1e-4)


def test_the_sample_text_and_try_in_write(open_tab):
    page = open_tab()
    page.locator("#use-sample").click()
    expect(page.locator("#tune-text textarea")).not_to_have_value("")
    run = start(page, None)
    finish(page)
    page.locator("#try-it").click()
    expect(page.locator("#machine")).to_contain_text("toy, step", timeout=20_000)
    expect(page.locator("#machine")).to_contain_text("ready")
    expect(page.locator("#generate")).to_be_visible()
    page.locator("#prompt textarea").fill("It")
    page.locator("#generate").click()
    expect(page.locator("#status")).to_contain_text("stopped:", timeout=20_000)
    expect(page.locator("#generate")).to_be_visible()  # a reload in mid-stream logs an error
    page.reload()
    page.locator("#model input").click()
    expect(page.get_by_role("option", name="my run")).to_have_count(1)
    assert run in page.url


# ---- the page only looks --------------------------------------------------------------------


def test_a_reload_and_a_closed_tab_change_nothing(open_tab, server):
    page = open_tab()
    run = start(page, settings=LONG)
    wait_for_steps(page, 100)
    page.reload()
    page.get_by_role("tab", name="Fine-tune").click()
    wait_for_steps(page, 100)
    assert page.url.endswith(f"?run={run}")
    points = page.locator("#run-chart path.train").get_attribute("d")
    assert points.count("L") >= 90, "the whole curve is there"
    first = page.locator("#run-chart path.valid").get_attribute("d")
    assert first.startswith("M0.0 "), "from step 0 on"
    again = open_tab(beside=page)  # no address: the browser remembers
    wait_for_steps(again, 100)
    again.close()
    at_close = server.runs.status(run).step
    page.goto("about:blank")
    server.runs.stop(run, "latest")  # it ends by itself, nobody looks
    back = open_tab(beside=page, query=f"?run={run}")
    finish(back)
    assert steps_done(back) >= at_close
    expect(back.locator("#run .line")).to_contain_text("/20,000")
    expect(back.locator("#keep-best")).to_be_hidden()
    expect(back.locator("#go-on")).to_be_visible()


def test_stop_continue_and_discard_in_two_clicks(open_tab, server):
    page = open_tab()
    run = start(page, settings=LONG)
    wait_for_steps(page, 60)
    page.locator("#keep-best").click()
    finish(page)
    expect(pill(page)).to_have_text("Stopped")
    stopped = steps_done(page)
    assert stopped < 20_000
    expect(page.locator("#checkpoint label").first).to_contain_text("best")
    page.locator("#more input").fill("5")
    page.locator("#go-on").click()
    expect(page.locator("#run .line")).to_have_text(
        f"step {stopped + 5:,}/{stopped + 5:,}", timeout=60_000
    )
    page.locator("#discard").click()
    expect(page.locator("#discard")).to_be_hidden()
    assert server.runs.status(run)
    page.locator("#discard-surely").click()
    expect(page.locator("#tune-blank")).to_be_visible()
    page.wait_for_function("!location.search.includes('run=')")  # the address follows the page
    assert server.runs.runs_of(None) == ()
    for gone in (run, "nonsense"):  # the address opens the tab, and says what is wrong with it
        page.goto(f"{server.url}?run={gone}")
        expect(page.locator("#tune-blank .error")).to_contain_text("no such run")


def test_a_killed_run_is_shown_as_interrupted_and_resumes(open_tab, server):
    page = open_tab()
    run = start(page, settings=LONG)
    wait_for_steps(page, 60)
    expect(page).to_have_title(re.compile(r"^\d+ % · GPT-2$"))
    os.kill(ipc.lock_owner(folder_of(server, run)), signal.SIGKILL)
    expect(pill(page)).to_have_text("Interrupted", timeout=20_000)
    expect(page.locator("#keep-best")).to_be_hidden()
    before = steps_done(page)
    page.locator("#resume").click()
    wait_for_steps(page, before + 20)
    expect(pill(page)).to_have_text(re.compile("Training|Evaluating|Saving"))
    page.locator("#keep-latest").click()
    finish(page)


def uploads() -> list[Path]:
    return list(temp_part(Temporary.UPLOADS).iterdir())


def test_two_browsers_do_not_see_each_others_runs_and_each_deletes_its_own(
    open_tab, server, tmp_path
):
    first, second = open_tab(), open_tab()
    run = start(first)
    finish(first)
    second.reload()
    second.get_by_role("tab", name="Fine-tune").click()
    expect(second.locator("#tune-blank")).to_be_visible()
    second.locator("#own > button").click()
    second.locator("#mine input").click()
    expect(second.get_by_role("option")).to_have_count(0)
    assert run not in second.content()
    second.locator("#model input").click()
    expect(second.get_by_role("option", name="my run")).to_have_count(0)

    folder = folder_of(server, run)
    assert folder.is_dir()
    (tmp_path / "waits.txt").write_text(TEXT)
    earlier = set(uploads())
    upload(first, tmp_path / "waits.txt")
    expect(first.locator("#text-card .facts")).to_contain_text("waits.txt")
    (waiting,) = set(uploads()) - earlier
    first.locator("#own > button").click()
    first.locator("#forget").click()
    first.locator("#forget-surely").click()
    expect(first.locator("#tune-blank")).to_be_visible()
    expect(first.locator("#text-card .hint")).to_be_visible()
    assert not folder.exists()
    assert not waiting.exists()


# ---- what cannot be used --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "empty"),
        ("a.txt", b"too short", "fewer than 200"),
        ("a.txt", b"\x1f\x8b\x08\x00" * 500, "not text"),
        ("a.csv", b"n\n1\n", "tokens"),
        ("a.jsonl", b"{broken\n" * 100, "JSON"),
    ],
)
def test_a_bad_file_is_refused_in_words(open_tab, name, content, words, tmp_path):
    page = open_tab()
    (tmp_path / name).write_bytes(content)
    upload(page, tmp_path / name)
    expect(page.locator("#text-card .error")).to_contain_text(words)
    page.locator("#start").click()
    expect(page.locator("#tune-status .error")).to_be_visible()
    expect(page.locator("#start")).to_be_enabled()
    expect(page.locator("#run")).to_be_hidden()


def test_an_encoding_that_is_not_certain_is_chosen_on_the_page(open_tab, tmp_path):
    words = "Příliš žluťoučký kůň úpěl ďábelské ódy. " * 40
    for name, content in (("plain.txt", TEXT.encode()), ("old.txt", words.encode("mac_latin2"))):
        (tmp_path / name).write_bytes(content)
    page = open_tab()
    upload(page, tmp_path / "plain.txt")
    expect(page.locator("#text-card .facts")).to_contain_text("utf-8")
    expect(page.locator("#encoding")).to_be_hidden()
    page.locator("#clear-text").click()
    upload(page, tmp_path / "old.txt")
    expect(page.locator("#text-card .error")).to_contain_text("Encoding on the page")
    page.locator("#encoding input").fill("mac_latin2")
    page.get_by_role("option", name="mac_latin2").click()
    expect(page.locator("#text-card .facts")).to_contain_text(f"{len(words):,} characters")
    expect(page.locator("#text-card .blocks")).to_contain_text("Příliš žluť")
    start(page, None)


def test_bad_settings_are_refused_in_words(open_tab):
    page = open_tab()
    page.locator("#tune-text textarea").fill(TEXT)
    page.locator("#advanced > button").click()
    steps = field(page, "Steps")
    for value, words in (("many", "number"), ("0", "steps must be"), ("1e99", "number")):
        steps.fill(value)
        page.locator("#start").click()
        expect(page.locator("#tune-status .error")).to_contain_text(words)
    expect(page.locator("#run")).to_be_hidden()


def test_the_card_follows_the_text(open_tab):
    page = open_tab()
    text = page.locator("#tune-text textarea")
    text.fill("short")
    expect(page.locator("#text-card .error")).to_contain_text("200")
    text.fill(TEXT)
    expect(page.locator("#text-card .facts")).to_contain_text(f"{len(TEXT):,} tokens")
    expect(page.locator("#text-card .warning")).to_contain_text("memorize")
    expect(page.locator("#preset")).to_contain_text(re.compile(r"Taste · (a few|\d)"))
    page.locator("#clear-text").click()
    expect(page.locator("#text-card .hint")).to_be_visible()
    expect(page.locator("#clear-text")).to_be_hidden()


# ---- the look -------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_page_stacks_and_text_stands_out(open_tab, scheme):
    page = open_tab(390, color_scheme=scheme)
    start(page, "It is a truth " * 50 + "verylongwordwithoutanyspace" * 20)
    finish(page)
    page.locator("#publish > button").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for part in ("#run .line", "#run h3", "#timeline .step", "#run .verdict", ".chart .x"):
        assert contrast(page, part) >= 4.5, part
    primary, fold = page.locator("#start").bounding_box(), page.locator("#advanced").bounding_box()
    assert primary["y"] < fold["y"]


def test_every_control_has_a_label_and_is_announced(open_tab):
    page = open_tab()
    for fold in ("#advanced", "#own"):
        page.locator(f"{fold} > button").click()
    expect(page.locator("#field-seed")).to_be_visible()
    for field in page.locator("#tune input:visible, #tune textarea:visible").all():
        assert field.evaluate("e => e.labels?.length > 0 || !!e.getAttribute('aria-label')"), (
            field.evaluate("e => e.outerHTML")
        )
    for block in page.locator("#fields .block:has(input, textarea)").all():
        assert len(block.locator(".info-text, .info").first.inner_text()) > 5
    for button in page.locator("#tune button:visible").all():
        name = button.get_attribute("aria-label") or button.inner_text()
        assert re.search(r"[A-Za-z]{2}", name), button.evaluate("e => e.outerHTML")
    expect(page.locator("#tune-announcer")).to_have_attribute("aria-live", "polite")
