"""The judges of what the storyteller writes, by texts whose verdict anybody can see."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks import minimal_pairs as pairs
from benchmarks.headings import heading_kind, without_headings
from benchmarks.openings import Opening, judge, openings_from
from benchmarks.prose import (
    begins_with_a_sentence,
    ends_a_sentence,
    names_in,
    repeated_runs,
    sentences_of,
)
from gpt2.byte_pairs import byte_characters
from gpt2.tokenizer import BytePairTokenizer

HEADINGS = [
    "CHAPTER IV",
    "Chapter Twelve. The Fox",
    "XII.",
    "17",
    "THE TRUE BRIDE",
    "* * *",
    "THE END",
]
LINES = [
    "<|endoftext|>",
    "Then he went.",
    "He cried: STOP!",
    'PART OF IT,"',
    "",
    "Parts of it",
]


@pytest.mark.parametrize("line", HEADINGS)
def test_a_heading_is_one(line):
    assert heading_kind(line)


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_text_is_none(line):
    assert heading_kind(line) is None


def test_headings_leave_no_gap_and_no_book_begins_with_one():
    first = "CHAPTER I\n\nTHE FOX\n\nA fox came.\n\n* * *\n\nIt ran.\n"
    second = "\nII\n\nA wolf came.\n"
    text, found = without_headings(f"<|endoftext|>\n{first}<|endoftext|>\n{second}")
    kept = "<|endoftext|>\nA fox came.\n\n\nIt ran.\n<|endoftext|>\nA wolf came.\n"
    assert text == kept
    assert found == {"division": 1, "capitals": 1, "rule of stars or dashes": 1, "numeral": 1}
    assert without_headings(text) == (kept, {})


def test_a_sentence_ends_behind_its_quotation_marks_and_not_behind_a_title():
    text = 'Mr. Fox came. "Who is it?" he said. "I am." And then he'
    assert sentences_of(text) == ["Mr. Fox came.", '"Who is it?"', "he said.", '"I am."']
    assert not ends_a_sentence(text)
    assert ends_a_sentence('"I am," said he. "Go!"')


def test_a_loop_is_counted_in_any_case_and_a_plain_text_has_none():
    assert repeated_runs("The sun rose and the sun rose and the sun set", 3) == 4 / 9
    assert repeated_runs("Nothing here comes twice", 3) == 0
    assert repeated_runs("", 3) == 0


def test_names_stand_within_sentences():
    text = "Then Matti met Oho, and he said to Matti: So I am."
    assert names_in(text) == {"Matti": 2, "Oho": 1}


def test_the_beginnings_that_were_found_broken():
    for text in (
        "\n\nA Story-WHIT WON OF MY ALPTORITYLE:\n\nA boy came by and said so.",
        "A Story-WHIT WON OF MY ALPTORITYLE:\n\nA boy came by and said so.",
        '"\n\nThen the king went home again.',
        "Professor Porter\n\nThe only one who could see it was the king.",
        "and so he went home to the king again.",
    ):
        assert not begins_with_a_sentence(text), text
    assert begins_with_a_sentence("Once upon a time there lived a king in the wood, who had no")
    assert begins_with_a_sentence('"I want my dinner now," said the Princess.\n\nShe sat down.')


TOPIC = Opening("Osmo rode with his sister to the castle and", "Osmo", frozenset(["sister"]))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (" Osmo's sister was glad. They came", None),
        (" the king was glad that Osmo was there. They came", "on_topic"),
        (" his sister was glad. He came", "keeps_the_person"),
        (" Osmo's sister saw the old king there. Osmo's sister saw the old king there.", "no_loop"),
        (" Osmo and his sister came and went and came", "ends_the_sentence"),
        (" Osmo's sister" + " and so on" * 14 + ". They came", "no_loop"),
    ],
)
def test_a_continuation_passes_or_fails_for_what_is_wrong_with_it(text, fault):
    judged = judge(TOPIC, text)
    assert judged.passes == (fault is None)
    assert fault is None or not getattr(judged, fault)


def test_openings_name_a_person_break_off_within_a_sentence_and_are_spaced_over_the_books():
    def book(name: str) -> str:
        words = " ".join(f"and they saw {name} near hill{'abcdefghij'[k]}" for k in range(9))
        return "\n".join(f"So{'abcdefghij'[k]} it was that they went {words}." for k in range(10))

    found = openings_from([book("Matti"), book("Osmo")], 4)
    assert [one.person for one in found] == ["Matti", "Matti", "Osmo", "Osmo"]
    assert [one.text.split()[0] for one in found] == ["Soa", "Sof"] * 2
    assert all(len(one.text.split()) == 25 and one.text[-1].isalpha() for one in found)


FAULTS = {
    "agreement, one": ("Then he was glad of it.", "Then he were glad of it."),
    "agreement, many": ("Then they were glad of it.", "Then they was glad of it."),
    "reflexive, he": ("He saw himself in it.", "He saw herself in it."),
    "reflexive, she": ("She saw herself in it.", "She saw himself in it."),
    "base form after an auxiliary": ("He could not see it.", "He could not saw it."),
    "participle": ("He had taken it.", "He had took it."),
    "case of a pronoun": ("He gave it to them there.", "He gave it to they there."),
    "determiner and noun": ("Those apples fell.", "That apples fell."),
    "article before a vowel": ("He ate an apple.", "He ate a apple."),
    "order of words": ("He saw the king of it.", "He saw king the of it."),
}


@pytest.mark.parametrize("kind", pairs.KINDS, ids=lambda kind: kind.name)
def test_a_pair_differs_in_one_fault_of_its_kind(kind):
    right, wrong = FAULTS[kind.name]
    assert kind.spoil(right) == wrong
    assert kind.spoil(f"{right} {right}") is None  # two places
    assert kind.spoil("Nothing stands here.") is None


def test_what_might_be_no_fault_is_left_alone():
    by_name = {kind.name: kind for kind in pairs.KINDS}
    assert by_name["agreement, one"].spoil("He went as if he was ill.") is None
    assert by_name["reflexive, he"].spoil("He told her of himself.") is None


def test_a_cloze_item_lacks_a_word_of_its_passage_and_offers_others_of_it():
    names = ["Matti", "Osmo", "Ilona", "Mikko", "Veikko", "Erkki"]
    told = " ".join(
        f"Now the old man saw {name} walking about there in {name[0]}." for name in names
    )
    item = next(pairs.cloze_from([told * 3 + " In the end the man met Osmo at home."], 5))
    assert item.kind == "cloze, a name"
    assert len(item.texts) == len(set(item.answers)) == pairs.CHOICES
    assert item.answers[0] in item.texts[0]
    assert all(answer in item.context for answer in item.answers)


def test_the_bigram_is_counts_and_prefers_what_it_has_seen():
    item = pairs.Item("kind", "", ("he was here", "he were here"))
    bigram = pairs.Bigram(["so he was here . they were here"], [item])
    words, twos = {"was": 1, "here": 2, "he": 1, ".": 1}, {("he", "was"): 1, ("was", "here"): 1}

    def log(before, word):
        alone = (words[word] + 0.5) / 9
        return math.log((twos.get((before, word), 0) + 50 * alone) / (words[before] + 50))

    by_hand = log(".", "he") + log("he", "was") + log("was", "here")
    assert bigram(item)[0] == pytest.approx(by_hand)
    assert bigram(item)[0] > bigram(item)[1]


def test_a_model_reads_texts_together_as_it_would_alone(make_model):
    """Padded behind, cut in front where the window is full; the context is not counted."""
    model = make_model(vocab_size=257)
    tokens = [*byte_characters(), "<|endoftext|>"]
    bytes_only = BytePairTokenizer({token: index for index, token in enumerate(tokens)}, [])
    item = pairs.Item("kind", "ab", (" cd", " efghi", " j"))
    together = pairs.Model(model, bytes_only)(item)
    for text, found in zip(item.texts, together, strict=True):
        ids = torch.tensor([[256, *bytes_only.encode("ab"), *bytes_only.encode(text)]])
        logs = model(ids).log_softmax(-1)[0, 2:-1]
        expected = sum(logs[k, token].item() for k, token in enumerate(bytes_only.encode(text)))
        assert found == pytest.approx(expected, abs=1e-4)
    window = model.config.n_positions
    long = pairs.Item("kind", "x" * window, (" cd", " ef"))
    assert all(math.isfinite(log) for log in pairs.Model(model, bytes_only)(long))


def test_ties_are_a_share_of_right():
    items = [pairs.Item("kind", "", ("a", "b"))] * 3
    assert pairs.share_right(lambda item: [0.0, 0.0], items) == 0.5
    assert pairs.share_right(lambda item: [1.0, 0.0], items) == 1.0
    assert pairs.share_right(lambda item: [0.0, 1.0], items) == 0.0
