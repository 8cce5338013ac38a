"""The versions of a page: any sequence of presses, and what the page then says."""

from __future__ import annotations

import random

import pytest

from ui.generation import Step
from ui.write.history import MAX_VARIANTS, MAX_VERSIONS, History, Passage, Press


def written(prompt: str, *texts: str, kept: str = "") -> Press:
    return Press(Step(prompt, kept, texts, endings=("length",) * len(texts)))


def texts(history: History) -> list[str]:
    return [passage.text for passage in history.passages]


class Model:
    """The page as a list of all that was ever on it, and a place in the list: nothing clever."""

    def __init__(self) -> None:
        self.pages: list[tuple[str, list[list[str]], int]] = [("", [[]], 0)]
        self.at = 0

    def add(self, prompt: str, variants: list[list[str]]) -> None:
        if self.at == 0:  # the prompt that was typed on the blank page
            self.pages[0] = (prompt, [[]], 0)
        del self.pages[self.at + 1 :]
        self.pages.append((prompt, variants, len(variants) - 1))
        self.at += 1

    @property
    def page(self) -> tuple[str, list[list[str]], int]:
        return self.pages[self.at]

    @property
    def texts(self) -> list[str]:
        _, variants, shown = self.page
        return variants[shown]


def act(choose: random.Random, history: History, model: Model, word: str) -> History:
    """One press, done to both."""
    kind = choose.choice(["generate", "continue", "retry", "undo", "undo", "redo", "back", "on"])
    if kind == "generate":
        count = choose.choice([1, 1, 3])
        press = written(word, *(f" {word}{i}" for i in range(count)))
        model.add(word, [[f"{word} {word}{i}" for i in range(count)]])
        return history.add(press)
    if kind == "continue" and model.texts:
        sample = choose.randrange(len(model.texts))
        prompt, now = history.passages[sample].prompt, list(model.texts)
        now[sample] += f" {word}"
        model.add(prompt, [now])
        return history.add(continued(history, sample, f" {word}"))
    if kind == "retry" and model.at:
        prompt, variants, _ = model.page
        last = history.press
        again = Press(
            Step(last.step.prompt, last.step.kept, (f" {word}",), endings=("length",)),
            last.beside,
            last.place,
        )
        kept = [text.text for text in last.beside]
        kept.insert(last.place, f"{last.step.prompt}{last.step.kept} {word}")
        model.add(prompt, [*variants, kept])
        return history.retry(again)
    if kind == "undo":
        model.at = max(0, model.at - 1)
        return history.undo()
    if kind == "redo":
        model.at = min(len(model.pages) - 1, model.at + 1)
        return history.redo()
    if kind in ("back", "on") and model.at:
        by = -1 if kind == "back" else 1
        prompt, variants, shown = model.page
        model.pages[model.at] = (prompt, variants, min(max(shown + by, 0), len(variants) - 1))
        return history.show(by)
    return history


def continued(history: History, sample: int, text: str) -> Press:
    one = history.passages[sample]
    beside = tuple(p for i, p in enumerate(history.passages) if i != sample)
    return Press(Step(one.prompt, one.kept + one.new, (text,), endings=("length",)), beside, sample)


@pytest.mark.parametrize("seed", range(200))
def test_any_sequence_of_presses_shows_what_a_plain_list_of_pages_does(seed):
    """Generate, Retry, Undo gave a blank page; Undo left the box at another text's prompt."""
    choose, history, model = random.Random(seed), History(), Model()
    for step in range(29):
        history = act(choose, history, model, f"w{step}")
        assert texts(history) == model.texts
        assert history.prompt == model.page[0]
        assert history.can_redo == (model.at < len(model.pages) - 1)


def test_a_history_is_bounded_and_keeps_the_newest():
    history = History()
    for index in range(MAX_VERSIONS + 5):
        history = history.add(written(str(index), "x"))
    assert (len(history.versions), history.prompt) == (MAX_VERSIONS, str(MAX_VERSIONS + 4))
    for index in range(MAX_VARIANTS + 5):
        history = history.retry(written("p", f"try {index}"))
    assert len(history.version.variants) == MAX_VARIANTS
    assert texts(history) == [f"ptry {MAX_VARIANTS + 4}"]


def test_a_text_knows_who_wrote_which_part():
    history = History().add(written("Once", " upon"))
    history = history.add(continued(history, 0, " a time"))
    assert history.passages == (Passage("Once", " upon", " a time"),)
