"""What a visitor may send for a run, and everything else, which is refused by name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gpt2.errors import UserError
from service.limits import Limits
from service.request import OFFERED, RunRequest

HUGE = 10**5000
BAD = [None, "5", [5], {"a": 5}, (5,), True, math.nan, math.inf, -math.inf, -1, HUGE, 1e300, b"5"]
NUMBERS = [name for name, one in OFFERED.items() if one.kind in ("int", "float")]


def make_request(**given):
    return RunRequest(**{"model": "storyteller", "text": "a text", **given})


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_is_refused_by_name_unless_it_is_one_in_range(name):
    low, high = OFFERED[name].offered
    for value in [*BAD, high * 1.01 + 1, low - 0.5, 2.5 if name != "lora_alpha" else 1e9]:
        if name in ("weight_decay", "gradient_clip") and value == 2.5:
            value = 1e9
        with pytest.raises(UserError, match=f"^{name} must be"):
            make_request(changes=((name, value),))
    for value in (low, high):
        ((_, parsed),) = make_request(changes=((name, value),)).changes
        assert parsed == value


def test_a_whole_number_may_come_as_a_page_sends_it():
    given = make_request(changes=(("steps", 40.0), ("learning_rate", 1e-4), ("dropout", 0)))
    assert [(value, type(value)) for _, value in given.changes] == [
        (40, int),
        (1e-4, float),
        (0.0, float),
    ]


@pytest.mark.parametrize("name", ["schedule", "optimizer", "precision"])
def test_a_choice_is_one_of_its_names(name):
    for value in [None, 5, ["adamw"], "nonsense", "", "ADAMW", "x" * 10_000, True]:
        with pytest.raises(UserError, match=f"^{name} must be") as caught:
            make_request(changes=((name, value),))
        assert len(str(caught.value)) < 200


def test_a_truth_value_is_no_number_and_no_word():
    for value in [None, 1, 0, "true", []]:
        with pytest.raises(UserError, match="gradient_checkpointing must be true or false"):
            make_request(changes=(("gradient_checkpointing", value),))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": None}, "model must be"),
        ({"model": ""}, "model must be"),
        ({"model": ["storyteller"]}, "model must be"),
        ({"model": "x" * 1001}, "model must be"),
        ({"text": None}, "Give a text"),
        ({"file": Path("a.txt")}, "Give a text"),
        ({"text": 7}, "text must be"),
        ({"text": ["a"]}, "text must be"),
        ({"text": None, "file": "a.txt"}, "file must be"),
        ({"text": None, "file": [Path("a.txt")]}, "file must be"),
        ({"preset": None}, "preset must be"),
        ({"preset": ["taste"]}, "preset must be"),
        ({"preset": "Taste"}, "preset must be"),
        ({"column": 5}, "column must be"),
        ({"column": "x" * 201}, "column must be"),
        ({"encoding": 5}, "encoding must be"),
        ({"encoding": "nonsense"}, "no text encoding 'nonsense'"),
        ({"encoding": "x" * 41}, "encoding must be"),
        ({"name": None}, "name must be"),
        ({"changes": None}, "changes must be"),
        ({"changes": {"steps": 5}}, "changes must be"),
        ({"changes": [("steps", 5)]}, "changes must be"),
        ({"changes": ("steps", 5)}, "changes must be"),
        ({"changes": (["steps", 5],)}, "changes must be"),
        ({"changes": (("steps", 5), ("steps", 6))}, "steps is given twice"),
        ({"changes": (("compile", True),)}, "no setting 'compile'"),
        ({"changes": (("shard", True),)}, "no setting"),
        ({"changes": (("keep", "all"),)}, "no setting"),
        ({"changes": ((None, 5),)}, "no setting"),
        ({"changes": ((["steps"], 5),)}, "no setting"),
        (
            {"changes": (("sample_prompt", "x" * 2001),)},
            "sample_prompt must be a text of at",
        ),
        ({"changes": (("sample_prompt", None),)}, "sample_prompt must be"),
    ],
)
def test_everything_else_is_refused_by_name(given, message):
    with pytest.raises(UserError, match=message):
        make_request(**given)


def test_the_text_is_not_in_the_picture_of_an_order():
    """Pictures of values end in logs."""
    assert "a text" not in repr(make_request())


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, True, "5", None])
def test_a_limit_is_a_number(value):
    with pytest.raises(UserError, match="running must be a whole number"):
        Limits(running=value)
