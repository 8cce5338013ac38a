"""The page as a visitor meets it: in a real Chromium, against the real server."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from playwright.sync_api import Locator, Page, expect

from gpt2.escapes import escape
from gpt2.folder import read_default_prompt
from gpt2.hub.resolve import STORYTELLER_FOLDER
from tests.support.app_server import WINDOW, Forwards, make_tiny_model, serve, wait_until
from tests.support.pages import contrast, watch
from ui.write.view import OTHER_OPENINGS, STORY_OPENINGS

# The Stop button is there while the model writes: count how often it went away.
COUNT_RUNS = """
  window.runs = 0;
  let stop = false;
  new MutationObserver(() => {
    const now = document.getElementById("stop") !== null;
    if (stop && !now) window.runs += 1;
    stop = now;
  }).observe(document, { childList: true, subtree: true });
"""
SUMMARY = re.compile(r"^\d+ tokens?, [\d.]+ tok/s, seed \d+, stopped: (length|end of text)$")
expect.set_options(timeout=30_000)  # a busy machine is slow, not wrong


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    with pytest.MonkeyPatch.context() as patch, serve(str(folder), patch) as running:
        yield running


@pytest.fixture
def forwards(server) -> Forwards:
    server.forwards.after_quiet(0.2)
    server.forwards.count, server.forwards.pause = 0, 0.0
    return server.forwards


@pytest.fixture
def open_page(new_context, server):
    """Opens the page; at the end nothing may have gone wrong in the browser, unseen."""
    troubles: list[str] = []

    def open_at(width: int = 1280, height: int = 900, **options: object) -> Page:
        context = new_context(viewport={"width": width, "height": height}, **options)
        page = watch(context.new_page(), troubles)
        page.add_init_script(COUNT_RUNS)
        page.goto(server.url)
        expect(page.locator("#generate")).to_be_visible()
        return page

    yield open_at
    assert troubles == []


@pytest.fixture
def page(open_page) -> Page:
    return open_page()


def setting(page: Page, label: str) -> Locator:
    """A control of the settings, which it opens."""
    if page.locator("#settings").get_by_label("Seed").is_hidden():
        page.locator("#settings > button").click()
        expect(page.locator("#settings").get_by_label("Seed")).to_be_visible()
    return page.locator("#settings").get_by_label(label, exact=False).first


def choose(page: Page, label: str, value: object) -> None:
    """Set a control, until it has taken the value: one filled before its script has run shows it
    and forgets it. Of a slider, the number and the handle must agree."""
    control = setting(page, label)
    for _ in range(20):
        control.fill(str(value))
        control.blur()
        page.wait_for_timeout(50)
        parts = page.locator("#settings").get_by_label(label, exact=False).all()
        if {part.input_value() for part in parts} == {str(value)}:
            return
    pytest.fail(f"{label} did not take {value}")


def write(page: Page, prompt: str | None = None) -> str:
    """Generate and wait for the end; the text of the first sample."""
    if prompt is not None:
        page.locator("#prompt textarea").fill(prompt)
    return press(page, "#generate")


def press(page: Page, button: str) -> str:
    """Press what begins a generation and wait for the end; the text of the first sample."""
    before = page.evaluate("window.runs")
    page.locator(button).click()
    return finished(page, before)


def finished(page: Page, before: int) -> str:
    page.wait_for_function("before => window.runs > before", arg=before)
    expect(page.locator("#status p")).to_have_text(SUMMARY)
    return text_of(page)


def text_of(page: Page, sample: int = 0) -> str:
    """What a passage says, as its Copy button gives it."""
    page.evaluate("copyText = async (text) => { window.copied = text; return true; }")
    page.locator(f"#copy-{sample}").click()
    page.wait_for_function("window.copied !== undefined")
    return page.evaluate("() => { const text = window.copied; delete window.copied; return text; }")


def start_long(page: Page, forwards: Forwards, **settings: object) -> None:
    """A generation that would take half a minute, and its first tokens."""
    forwards.pause = 0.03
    for label, value in settings.items():
        choose(page, label, value)
    choose(page, "Length", 1000)
    page.locator("#generate").click()
    expect(page.locator("#stop")).to_be_visible()
    forwards.wait_for(10)


# ---- writing --------------------------------------------------------------------------------


def test_generate_writes_behind_the_prompt(page, forwards):
    choose(page, "Length", 20)
    text = write(page, "Once upon a time")
    assert text.startswith("Once upon a time")
    assert len(text) > len("Once upon a time")
    assert forwards.count == 20
    expect(page.locator("#passage-0 .highlighted")).to_have_text("Once upon a time")
    expect(page.locator("#announcer p")).to_have_text("Copied.")
    page.locator("#generate").click()
    expect(page.locator("#announcer p")).to_have_text(SUMMARY)
    expect(page.locator("#announcer")).to_have_attribute("aria-live", "polite")


def test_an_empty_prompt_begins_by_itself(page):
    choose(page, "Length", 10)
    assert write(page)
    expect(page.locator("#passage-0 .highlighted")).to_have_count(0)


def test_shift_enter_generates_and_enter_is_a_new_line(page):
    choose(page, "Length", 5)
    prompt = page.locator("#prompt textarea")
    prompt.fill("One")
    prompt.press("Enter")
    prompt.press_sequentially("two")
    expect(prompt).to_have_value("One\ntwo")
    prompt.press("Shift+Enter")
    assert finished(page, 0).startswith("One\ntwo")


def test_the_keyboard_keeps_its_place_between_generate_and_stop(page, forwards):
    forwards.pause = 0.03
    choose(page, "Length", 15)
    page.locator("#generate").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_focused()
    expect(page.locator("#generate")).to_be_focused()


def test_stop_ends_the_computation_and_keeps_the_text(page, forwards):
    start_long(page, forwards)
    expect(page.locator("#generate")).to_be_hidden()
    expect(page.locator("#retry")).to_be_disabled()
    at_click = forwards.count
    page.locator("#stop").click()
    expect(page.locator("#status p")).to_have_text(re.compile(r"^\d+ tokens, .* stopped: by you$"))
    after = forwards.after_quiet()
    assert after - at_click <= 12, "it went on after Stop"
    assert 10 <= after < 200
    expect(page.locator("#generate")).to_be_visible()
    assert text_of(page)
    forwards.pause = 0.0
    choose(page, "Length", 5)
    write(page)  # the worker is free again


def test_leaving_the_page_ends_the_computation(open_page, forwards):
    page = open_page()
    start_long(page, forwards)
    page.context.close()
    assert forwards.after_quiet(1.0) < 60


def test_a_refresh_ends_the_computation(browser, server, forwards):
    page = browser.new_page()  # gradio logs the stream that the refresh cut off as an error
    page.goto(server.url)
    start_long(page, forwards)
    page.reload()
    assert forwards.after_quiet(1.0) < 80
    expect(page.locator("#generate")).to_be_visible()
    page.close()


def test_continue_retry_and_undo(page, forwards):
    choose(page, "Length", 8)
    first = write(page, "Once")
    second = press(page, "#continue-0")
    assert second.startswith(first)
    assert len(second) > len(first)
    third = press(page, "#retry")
    assert third.startswith(first)
    assert third != second
    fourth = press(page, "#retry")
    assert fourth.startswith(first)
    assert fourth not in (second, third)
    assert forwards.count == 32
    # Retry adds variants, and nothing that was written is lost.
    shown = page.locator("#variant p")
    expect(shown).to_have_text("3 of 3")
    expect(page.locator("#later")).to_be_disabled()
    page.locator("#earlier").click()
    expect(shown).to_have_text("2 of 3")
    assert text_of(page) == third
    page.locator("#prompt textarea").fill("Something else")
    page.locator("#undo").click()
    expect(page.locator("#variant p")).to_have_text("2 of 2")
    assert text_of(page) == third
    walk(page, "#undo", "", second)
    walk(page, "#undo", "", first)
    assert page.locator("#prompt textarea").input_value() == "Once", "the prompt goes along"
    page.locator("#undo").click()
    expect(page.locator("#blank")).to_be_visible()
    expect(page.locator("#undo")).to_be_disabled()
    expect(page.locator("#passage-0")).to_be_hidden()
    walk(page, "#redo", "", first)
    walk(page, "#redo", "", second)
    walk(page, "#redo", "2 of 2", third)
    page.locator("#redo").click()
    expect(page.locator("#variant p")).to_have_text("2 of 3")
    expect(page.locator("#redo")).to_be_disabled()


def walk(page: Page, button: str, variant: str, text: str) -> None:
    """Undo or Redo, and what is then on the page."""
    expect(page.locator(button)).to_be_enabled()
    page.locator(button).click()
    wait_until(lambda: text_of(page) == text, f"{text!r} after {button}")
    expect(page.locator("#variants")).to_be_visible(visible=bool(variant))
    if variant:
        assert page.locator("#variant p").inner_text() in variant


def test_a_reload_loses_nothing(page, forwards):
    """It cleared the prompt, the text and the settings; a restarted server did the same."""
    choose(page, "Length", 9)
    first = write(page, "Once")
    text = press(page, "#continue-0")
    page.locator("#prompt textarea").fill("My next idea")
    page.wait_for_function("localStorage['gpt2-write-box']?.includes('My next idea')")
    page.wait_for_function("localStorage['gpt2-write-page']?.includes('kept')")
    count = forwards.count
    page.reload()
    expect(page.locator("#status p")).to_have_text("Restored.")
    expect(page.locator("#prompt textarea")).to_have_value("My next idea")
    assert text_of(page) == text
    assert setting(page, "Length").input_value() == "9"
    assert forwards.count == count
    assert press(page, "#continue-0").startswith(text)
    page.locator("#undo").click()
    expect(page.locator("#status p")).to_have_text("Undone.")
    assert text_of(page) == text != first
    page.reload()
    page.locator("#fresh").click()
    expect(page.locator("#blank")).to_be_visible()
    page.wait_for_function("!localStorage['gpt2-write-page']")
    assert page.locator("#prompt textarea").input_value() == ""


def test_copy_reaches_the_clipboard(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    choose(page, "Length", 10)
    page.locator("#prompt textarea").fill("Copy <b>me</b> & more\n\n  twice")
    page.locator("#generate").click()
    expect(page.locator("#status p")).to_have_text(SUMMARY)
    page.locator("#copy-0").click()
    expect(page.locator("#copy-0")).to_have_attribute("data-copied", "Copied")
    expect(page.locator("#status p")).to_have_text(SUMMARY)  # with its seed it stays
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("Copy <b>me</b> & more\n\n  twice")
    expect(page.locator("#passage-0 b")).to_have_count(0)


def test_several_samples_are_one_batch_and_each_can_be_continued(page, forwards):
    choose(page, "Length", 10)
    choose(page, "Samples", 3)
    write(page, "Once")
    assert forwards.count == 10
    texts = [text_of(page, sample) for sample in range(3)]
    assert len(set(texts)) == 3
    expect(page.locator("#passage-3")).to_be_hidden()
    press(page, "#continue-1")
    now = [text_of(page, sample) for sample in range(3)]
    assert (now[0], now[2]) == (texts[0], texts[2]), "the others stay"
    assert now[1].startswith(texts[1])
    assert len(now[1]) > len(texts[1])
    assert forwards.count == 20
    page.locator("#undo").click()
    expect(page.locator("#status p")).to_have_text("Undone.")
    assert [text_of(page, sample) for sample in range(3)] == texts


def test_the_seed_in_the_status_line_repeats_the_text(page):
    choose(page, "Length", 10)
    first = write(page, "Once")
    seed = re.search(r"seed (\d+)", page.locator("#status").inner_text())[1]
    choose(page, "Seed", seed)
    page.locator("#undo").click()
    expect(page.locator("#blank")).to_be_visible()
    assert write(page) == first


def test_a_stop_text_ends_the_text(page):
    choose(page, "Length", 30)
    choose(page, "Seed", 5)
    whole = write(page, "Once")
    stop = whole[len(whole) // 2 :][:2]
    choose(page, "Stop text", escape(stop))
    page.locator("#generate").click()
    expect(page.locator("#status p")).to_have_text(re.compile("stopped: stop text$"))
    assert text_of(page) == whole[: whole.index(stop, len("Once"))]


def test_each_line_of_the_stop_texts_is_one(page):
    """With escapes, for a line break is one that people want."""
    choose(page, "Length", 10)
    choose(page, "Stop text", "---\n\\n\nC:\\d")
    write(page, "Once")
    page.locator("#snippets > button").click()
    stops = r"""stop=('---', '\n', 'C:\\d'),"""
    expect(page.locator("#as-python textarea")).to_have_value(re.compile(re.escape(stops)))


def test_the_settings_can_be_copied_as_code(page):
    choose(page, "Length", 7)
    write(page, 'It\'s a "test"')
    seed = re.search(r"seed (\d+)", page.locator("#status").inner_text())[1]
    page.locator("#snippets > button").click()
    python = page.locator("#as-python textarea")
    expect(python).to_have_value(re.compile(f"seed={seed},"))
    expect(python).to_have_value(re.compile("max_new_tokens=7,"))
    page.get_by_role("tab", name="Command line").click()
    expect(page.locator("#as-command textarea")).to_have_value(re.compile(f"--seed {seed}"))
    page.get_by_role("tab", name="curl").click()
    expect(page.locator("#as-curl textarea")).to_have_value(re.compile(f'"seed": {seed}'))


def test_a_second_visitor_writes_beside_the_first_and_stops_alone(open_page, forwards):
    """They used to wait for each other in a queue."""
    first, second = open_page(), open_page()
    start_long(first, forwards)
    choose(second, "Length", 1000)
    second.locator("#generate").click()
    expect(second.locator("#status")).to_contain_text("tokens")
    second.locator("#stop").click()
    expect(second.locator("#status")).to_contain_text("stopped: by you")
    before = forwards.count
    forwards.wait_for(before + 5)  # the first one is still writing
    first.locator("#stop").click()
    forwards.after_quiet()


# ---- the prompt and the controls ------------------------------------------------------------


def test_tokens_are_counted_as_one_types(page):
    expect(page.locator("#count p")).to_have_text(f"0 / {WINDOW} tokens")
    page.locator("#prompt textarea").press_sequentially("Once upon a time")
    expect(page.locator("#count p")).to_have_text(f"4 / {WINDOW} tokens")


def test_an_over_long_prompt_says_what_is_dropped_and_works(page):
    choose(page, "Length", 5)
    page.locator("#prompt textarea").fill(" word" * (WINDOW + 10))
    line = f"{WINDOW + 10} / {WINDOW} tokens: the first 10 will be dropped"
    expect(page.locator("#count p")).to_have_text(line)
    assert write(page).startswith(" word" * (WINDOW + 10))


def test_a_prompt_beyond_all_bounds_is_refused_in_red(page, forwards):
    page.locator("#prompt textarea").fill("x" * 450_000)
    expect(page.locator("#count p.error")).to_contain_text("450,000")
    page.locator("#generate").click()
    expect(page.locator("#status p.error")).to_contain_text("send the end of your text")
    expect(page.locator("#generate")).to_be_visible()
    expect(page.locator("#retry")).to_be_disabled()
    assert forwards.count == 0
    choose(page, "Length", 5)
    write(page, "Once")


def test_styles_set_the_controls_and_a_moved_control_is_custom(page):
    names = ("Temperature", "Top-k", "Top-p", "Repetition penalty")
    setting(page, "Seed")
    for style, values in {
        "Wild": ("1", "0", "0.95", "1.1"),
        "Greedy": ("0", "0", "1", "1.4"),
        "Precise": ("0.4", "20", "0.9", "1.3"),
        "Balanced": ("0.8", "40", "0.95", "1.1"),
    }.items():
        page.locator("#style").get_by_text(style).click()
        for name, value in zip(names, values):
            expect(setting(page, name)).to_have_value(value)
    choose(page, "Top-k", 41)
    expect(page.locator("#style label.selected")).to_have_text("Custom")
    expect(setting(page, "Temperature")).to_have_value("0.8")


def test_greedy_ignores_the_seed(page):
    choose(page, "Length", 10)
    page.locator("#style").get_by_text("Greedy").click()
    expect(setting(page, "Temperature")).to_have_value("0")
    first = write(page, "Once")
    assert press(page, "#retry") == first


def test_the_style_is_a_group_for_the_keyboard(page):
    """Its radio buttons were not there for a keyboard or a screen reader, each had a name of its
    own, Custom did nothing, and nobody was told that a greedy text is always the same."""
    page.get_by_role("radio", name="Balanced").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("radio", name="Precise")).to_be_checked()
    expect(page.get_by_role("radio", name="Balanced")).not_to_be_checked()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Greedy")).to_be_checked()
    expect(page.locator("#style-hint")).to_contain_text("Always the same text")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#settings").get_by_label("Seed")).to_be_visible()


def test_on_a_telephone_the_text_is_on_the_screen(open_page):
    """It began 900 pixels down, in a window of 844."""
    page = open_page(width=390, height=844)
    write(page, "Once")
    expect(page.locator("#passage-0")).to_be_in_viewport(ratio=0.2)


def test_every_control_has_a_label_and_an_explanation(page):
    expect(setting(page, "Seed")).to_be_visible()
    blocks = page.locator("#settings .block:has(input, textarea), #prompt, #style, #model")
    assert blocks.count() >= 12
    for block in blocks.all():
        assert len(block.locator(".info-text, .info").first.inner_text()) > 10
    for field in page.locator("input:visible, textarea:visible").all():
        assert field.evaluate("e => e.labels?.length > 0 || !!e.getAttribute('aria-label')"), (
            field.evaluate("e => e.outerHTML")
        )
    for button in page.locator("button:visible").all():
        name = button.get_attribute("aria-label") or button.inner_text()
        assert re.search(r"[A-Za-z]{2}", name), button.evaluate("e => e.outerHTML")


# ---- models ---------------------------------------------------------------------------------


def pick(page: Page, name: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=name).click()


def test_switching_to_the_storyteller_and_writing_with_it(page):
    expect(page.locator("#machine")).to_contain_text("tiny ready")
    expect(page.locator("#openings button").first).to_have_text(OTHER_OPENINGS[0])
    pick(page, "Storyteller")
    expect(page.locator("#machine")).to_contain_text("Storyteller ready")
    expect(page.locator("#openings button").first).to_have_text(STORY_OPENINGS[0])
    page.locator("#openings button").first.click()
    expect(page.locator("#prompt textarea")).to_have_value(STORY_OPENINGS[0])
    expect(page.locator("#count")).not_to_contain_text(f"/ {WINDOW} ")
    choose(page, "Length", 20)
    text = write(page)
    written = text.removeprefix(STORY_OPENINGS[0])
    assert written
    assert sum(map(str.isascii, written)) / len(written) > 0.9
    page.locator("#prompt textarea").fill("")
    assert write(page).startswith(read_default_prompt(STORYTELLER_FOLDER))


def test_a_size_that_cannot_be_had_leaves_the_model_as_it_was(page):
    pick(page, "GPT-2 355M")
    expect(page.locator("#machine")).to_contain_text("Still using tiny")
    expect(page.locator("#machine")).to_contain_text("355M")
    expect(page.locator("#model input")).to_have_value(re.compile("^tiny"))
    choose(page, "Length", 5)
    write(page, "Once")


# ---- the look -------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_page_stacks_and_never_scrolls_sideways(open_page, scheme):
    page = open_page(390, 844, color_scheme=scheme)
    choose(page, "Length", 30)
    choose(page, "Samples", 4)
    write(page, "Once upon a time " + "verylongwordwithoutanyspace" * 10)
    page.locator("#snippets > button").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [page.locator(f"#passage-{sample}").bounding_box() for sample in range(4)]
    for above, below in itertools.pairwise(boxes):
        assert below["y"] >= above["y"] + above["height"]
    top = {
        name: page.locator(name).bounding_box()["y"]
        for name in ("#generate", "#style", "#settings")
    }
    assert top["#generate"] < boxes[0]["y"] < top["#style"] < top["#settings"]


def test_a_wide_page_shows_prompt_and_text_side_by_side(page):
    choose(page, "Samples", 2)
    choose(page, "Length", 5)
    write(page, "Once")
    prompt, left, right = (
        page.locator(name).bounding_box() for name in ("#prompt", "#passage-0", "#passage-1")
    )
    assert prompt["x"] + prompt["width"] < left["x"] < right["x"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(open_page, scheme):
    page = open_page(color_scheme=scheme)
    choose(page, "Length", 5)
    write(page, "Once")
    for name in ("#passage-0 .highlighted .text", "#passage-0 .unlabeled", "#status p", "#count p"):
        assert contrast(page, name) >= 4.5, name
    expect(page.locator("#generate")).to_be_visible()


def test_first_paint_is_quick(open_page):
    started = time.monotonic()
    open_page()
    assert time.monotonic() - started < 10
