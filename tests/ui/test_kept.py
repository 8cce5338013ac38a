"""What a browser kept comes back; what nobody could have written does not."""

from __future__ import annotations

import json

import pytest

from gpt2.settings import TEXTS
from ui.generation import SETTINGS, Step
from ui.write.history import History, Passage, Press
from ui.write.kept import MAX_KEPT, Kept, keep, parse_kept

STARTS = ["" if one.kind == TEXTS else one.start for one in SETTINGS]


def page(**changes: object) -> str:
    step = Step("Once", " upon", (" a time",), 3, 0.5, 7, ("length",))
    press = Press(step, (Passage("It", " was", ""), Passage("One", "", " day")), 1)
    return json.dumps(json.loads(keep(History().add(press))) | changes)


def kept(page: object = None, box: object = None) -> Kept:
    return parse_kept(json.dumps({"page": page, "box": box}))


def test_a_page_comes_back_as_it_was():
    (one,) = kept(page()).history.versions
    assert [passage.text for passage in one.press.passages] == [
        "It was",
        "Once upon a time",
        "One day",
    ]
    assert one.press.step.summary() == "3 tokens, 6.0 tok/s, seed 7, stopped: length"


def test_a_text_in_the_middle_is_one_that_was_stopped():
    unfinished = History().add(Press(Step("Once", texts=(" upon",), tokens=1, endings=(None,))))
    assert kept(keep(unfinished)).history.press.step.endings == ("stopped",)


def test_a_blank_page_and_one_that_is_too_large_are_not_kept():
    assert keep(History()) == ""
    assert keep(History().add(Press(Step("x" * 5_000_000)))) == ""
    assert parse_kept("x" * (2 * MAX_KEPT + 1)) == Kept()


def test_the_prompt_and_the_settings_come_back():
    values = [*STARTS]
    box = json.dumps({"prompt": "Once\n", "settings": values})
    assert kept(box=box) == Kept("Once\n", tuple(values))


@pytest.mark.parametrize(
    "settings", [None, 1, [], STARTS[:-1], [*STARTS[:-1], {"a": 1}], [["x"]] * len(STARTS)]
)
def test_settings_that_cannot_be_leave_the_controls_as_they_are(settings):
    box = json.dumps({"prompt": "Once", "settings": settings})
    assert kept(box=box) == Kept("Once")


@pytest.mark.parametrize(
    "changes",
    [
        {"texts": "abc"},
        {"texts": []},
        {"texts": ["x"] * 20},
        {"texts": [1]},
        {"beside": [["a", "b"]]},
        {"beside": [["a", "b", None]]},
        {"place": 9},
        {"place": True},
        {"tokens": -1},
        {"seconds": "x"},
        {"seed": 1e300},
        {"prompt": "x" * 500_000},
        {"endings": [["a"]]},
    ],
)
def test_a_page_that_cannot_be_is_a_blank_one(changes):
    assert kept(page(**changes)).history == History()


@pytest.mark.parametrize("text", [None, 1, "", "[", "[" * 99_999, "[]", '{"page": 3, "box": []}'])
def test_nonsense_is_nothing(text):
    assert parse_kept(text) == Kept()
