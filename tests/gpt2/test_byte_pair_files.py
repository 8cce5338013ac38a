"""Every layout of a byte-pair tokenizer's files, against the programs that write and read them.

`tokenizers` and `transformers` share no code with ours; what they encode, decides.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers
from transformers import AddedToken as TheirAddedToken
from transformers import AutoTokenizer

from gpt2.added_tokens import AddedToken
from gpt2.byte_pair_files import BYTE_PAIR_FILES
from gpt2.byte_pairs import BytePairSettings
from gpt2.errors import UserError
from gpt2.folder import load_model, save_model
from gpt2.hub.resolve import STORYTELLER_FOLDER
from gpt2.tokenizer import BytePairTokenizer, gpt2_tokenizer, load_tokenizer
from train.config import TrainConfig
from train.data import build_corpus
from train.memorization import TrainingText

END = "<|endoftext|>"
CORPUS = ["the cat sat on the mat, then the hat came. Élan Vital ﬁne naïve CAFÉ"] * 3


def learned(special: list[str], size: int = 300) -> tokenizers.Tokenizer:
    """A tokenizer as its users learn it: `special` get the first ids."""
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=special,
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    return learner


def change(path: Path, **values: object) -> None:
    """Set keys of a JSON file; None removes one."""
    described = json.loads(path.read_text()) if path.is_file() else {}
    described = {name: value for name, value in (described | values).items() if value is not None}
    path.write_text(json.dumps(described))


def without_end(theirs: tokenizers.Tokenizer, *ends: str) -> tokenizers.Tokenizer:
    """The same for text in which nothing ends a text."""
    described = json.loads(theirs.to_str())
    added = described["added_tokens"]
    described["added_tokens"] = [token for token in added if token["content"] not in ends]
    return tokenizers.Tokenizer.from_str(json.dumps(described))


def random_texts(choose: random.Random, pieces: list[str], count: int) -> list[str]:
    words = ["the", "cat ", " hat", "É", "e\u0301", "ﬁ", "ΑΣ", "x1", " ", "  ", "\n", "\t", "_"]
    words += ["٣", "\u3000", "\x1c", "\u200d", "!", "😀", "Ⅷ", "½", "\u0301", END]
    return ["".join(choose.choices(words + pieces, k=choose.randint(0, 9))) for _ in range(count)]


def assert_same(ours, theirs: tokenizers.Tokenizer, texts: list[str]) -> None:
    for text in texts:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids, repr(text)


@pytest.mark.parametrize("seed", range(60))
def test_any_added_tokens_and_settings_give_the_ids_of_tokenizers_and_are_kept(seed, tmp_path):
    choose = random.Random(seed)
    theirs = learned([END] if choose.random() < 0.5 else ["<s>", END, "<pad>"])
    contents = ["<|speaker1|>", "<|speaker1", "er1|>x", "cat", "Hat", "É", " the ", "[MASK]", "a b"]
    for content in choose.sample(contents, k=choose.randint(0, 6)):
        flags = {name: choose.random() < 0.4 for name in ("lstrip", "rstrip", "single_word")}
        token = tokenizers.AddedToken(content, normalized=choose.random() < 0.5, **flags)
        (theirs.add_special_tokens if choose.random() < 0.5 else theirs.add_tokens)([token])
    prefix = choose.random() < 0.3
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    steps = [normalizers.NFC(), normalizers.NFKD(), normalizers.Lowercase()]
    if chosen := choose.sample(steps, k=choose.choice([0, 0, 1, 2])):
        theirs.normalizer = chosen[0] if len(chosen) == 1 else normalizers.Sequence(chosen)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path)
    texts = random_texts(choose, [*contents, "<s>", "<pad>"], 150)
    assert_same(ours, without_end(theirs, END), texts)
    assert ours.vocab_size == theirs.get_vocab_size()
    assert ours.end_of_text == theirs.token_to_id(END)

    (tmp_path / "again").mkdir()
    ours.save(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert [again.encode(text) for text in texts] == [ours.encode(text) for text in texts]
    opened = tokenizers.Tokenizer.from_file(str(tmp_path / "again" / "tokenizer.json"))
    assert_same(again, without_end(opened, END), texts)
    hub = AutoTokenizer.from_pretrained(tmp_path / "again")
    for text in (text for text in texts[:40] if END not in text):
        assert ours.encode(text) == hub(text)["input_ids"], repr(text)
    # Without tokenizer.json the older files say the same, but for normalizers, unknown to them.
    if not chosen:
        (tmp_path / "again" / "tokenizer.json").unlink()
        older = load_tokenizer(tmp_path / "again")
        assert [older.encode(text) for text in texts] == [ours.encode(text) for text in texts]


# Layouts, as transformers writes and reads them


@pytest.fixture
def storyteller(tmp_path) -> Path:
    """The small files of the bundled model without tokenizer.json, for a test to add to."""
    folder = tmp_path / "layout"
    folder.mkdir()
    for name in ("config.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(STORYTELLER_FOLDER / name, folder / name)
    return folder


TEXTS = ["<s1>Hello <s2> there", "<s1><s2>", " a<s1> \n<s2> b <pad>", "é<s1>é", "", "no tokens"]


def assert_as_transformers(folder: Path) -> BytePairTokenizer:
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert ours.encode(text) == theirs(text)["input_ids"], text
        assert ours.decode(ours.encode(text)) == text
    assert ours.end_of_text == theirs.eos_token_id
    return ours


def test_what_transformers_5_saves_is_tokenizer_json_alone(storyteller):
    theirs = AutoTokenizer.from_pretrained(storyteller)
    theirs.add_tokens(["<s1>"])
    theirs.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<s2>"]})
    theirs.save_pretrained(storyteller / "saved")
    assert not (storyteller / "saved" / "vocab.json").exists()
    ours = assert_as_transformers(storyteller / "saved")
    assert ours.encode("<s1><pad>") == [8192, 8193]


@pytest.mark.parametrize("special", [True, False])
def test_tokens_in_added_tokens_json_were_split_in_silence(special, storyteller):
    """A dialogue model, tuned with two speakers: each was cut into eight pieces it never saw."""
    change(storyteller / "added_tokens.json", **{"<s1>": 8192, "<s2>": 8193})
    if special:
        change(storyteller / "special_tokens_map.json", additional_special_tokens=["<s1>", "<s2>"])
    ours = assert_as_transformers(storyteller)
    assert ours.encode("<s1>x<s2>")[::2] == [8192, 8193]
    assert ours.decode_bytes([8193]) == b"<s2>"


def test_the_end_of_a_text_may_be_another_token_and_typed_it_is_only_characters(storyteller):
    """`</s>` strikes text through in old HTML; a visitor who pastes that must not end the text."""
    change(storyteller / "added_tokens.json", **{"</s>": 8192, "<s1>": 8193})
    change(storyteller / "special_tokens_map.json", eos_token="</s>", bos_token="<s1>")
    change(storyteller / "tokenizer_config.json", eos_token="</s>", bos_token="<s1>")
    ours = load_tokenizer(storyteller)
    assert ours.end_of_text == AutoTokenizer.from_pretrained(storyteller).eos_token_id == 8192
    for ending in ("</s>", END):
        ids = ours.encode(f"<s1>a{ending}b")
        assert ids[0] == 8193
        assert not {8191, 8192} & set(ids)
        assert ours.decode(ids) == f"<s1>a{ending}b"
    ours.save(storyteller)
    again = json.loads((storyteller / "tokenizer_config.json").read_text())
    assert (again["eos_token"], again["bos_token"]) == ("</s>", "<s1>")
    assert load_tokenizer(storyteller).end_of_text == 8192


def test_special_tokens_may_have_the_first_ids(tmp_path):
    """The usual recipe gives <s>, <pad>, </s> the ids 0, 1, 2: the vocabulary was refused."""
    learner = learned(["<s>", "<pad>", "</s>"])
    learner.model.save(str(tmp_path))  # vocab.json and merges.txt, which declare nothing
    ours = load_tokenizer(tmp_path)
    assert ours.end_of_text is None
    assert_same(ours, without_end(learner, "<s>", "<pad>", "</s>"), ["<s>the cat</s>", "<pad>"])
    assert ours.decode([0, 1, 2]) == "<s><pad></s>"

    change(tmp_path / "tokenizer_config.json", eos_token="</s>", bos_token={"content": "<s>"})
    ours = load_tokenizer(tmp_path)
    assert ours.end_of_text == 2
    assert ours.encode("<s>the</s>") == without_end(learner, "</s>").encode("<s>the</s>").ids
    ours.save(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("<s>the cat")["input_ids"] == ours.encode(
        "<s>the cat"
    )


@pytest.mark.parametrize("said", [True, False, None])
@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "PreTrainedTokenizerFast", None])
@pytest.mark.parametrize("written", [True, False])
def test_a_space_before_the_text_is_put_where_transformers_puts_it(
    said, kind, written, storyteller
):
    AutoTokenizer.from_pretrained(storyteller, add_prefix_space=written).save_pretrained(
        storyteller / "saved"
    )
    folder = storyteller / "saved"
    change(folder / "tokenizer_config.json", add_prefix_space=said, tokenizer_class=kind)
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    for text in ("Hello", " Hello", "\nHello", "", "a b"):
        assert ours.encode(text) == theirs(text)["input_ids"], text
        assert ours.decode(ours.encode(text)).strip() == text.strip()


def test_every_folder_that_is_saved_opens_with_tokenizers_and_has_all_files(tmp_path):
    ours = gpt2_tokenizer()
    ours.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(BYTE_PAIR_FILES)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert_same(ours, theirs, ["Hello wörld", "", " \n\n 'll"])
    assert theirs.token_to_id(END) == ours.end_of_text
    assert theirs.encode(END).ids == [50256]
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink()
    alone = load_tokenizer(tmp_path)
    assert (alone.vocabulary, alone.merges) == (ours.vocabulary, ours.merges)


def test_the_bundled_model_has_a_tokenizer_json_of_its_own_tokens(tmp_path):
    load_tokenizer(STORYTELLER_FOLDER).save(tmp_path)
    for name in BYTE_PAIR_FILES:
        assert (tmp_path / name).read_bytes() == (STORYTELLER_FOLDER / name).read_bytes(), name


# What a run does with them


def test_added_tokens_survive_a_run_and_the_model_folder_that_it_writes(make_model, tmp_path):
    """A fine-tune wrote vocab.json and merges.txt alone, and the speakers were gone."""
    vocabulary = json.loads((STORYTELLER_FOLDER / "vocab.json").read_text(encoding="utf-8"))
    plain = load_tokenizer(STORYTELLER_FOLDER)
    added = (AddedToken(8195, "<s1>"), AddedToken(8192, "<s2>", special=True, lstrip=True))
    settings = BytePairSettings(added, (("pad_token", "<s2>"),), add_prefix_space=True)
    tuned = BytePairTokenizer(vocabulary, plain.merges, settings)
    assert tuned.vocab_size == 8196
    assert tuned.decode_bytes([8193, 8194]) == b""  # holes, which a model may draw
    tuned.save(tmp_path)
    save_model(tmp_path / "model", make_model(vocab_size=8200), load_tokenizer(tmp_path))
    _, ours = load_model(tmp_path / "model")
    assert [asdict(token) for token in ours.settings.added if token.content != END] == [
        asdict(token) for token in sorted(added, key=lambda token: token.id)
    ]
    assert dict(ours.settings.roles)["pad_token"] == "<s2>"
    assert ours.encode("a <s2>b<s1>") == tuned.encode("a <s2>b<s1>")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    # transformers counts on from the last id, so that holes close: only the ids below are its own.
    assert theirs("a <s2>b")["input_ids"] == ours.encode("a <s2>b")


def test_a_space_before_a_text_is_put_before_the_whole_text_only(tmp_path):
    """Long files are tokenized a megabyte at a time; a new piece is not a new text."""

    class Pieces:
        name, encoding, bytes, notes = "pieces", "utf-8", 9, ()

        def pieces(self):
            yield "one", False
            yield "\ntwo", True
            yield "three", True

    plain = load_tokenizer(STORYTELLER_FOLDER)
    ours = BytePairTokenizer(
        plain.vocabulary, plain.merges, BytePairSettings(add_prefix_space=True)
    )
    corpus = build_corpus([Pieces()], ours, tmp_path, TrainConfig(validation_share=0.0))
    assert ours.decode(corpus.train.tolist()) == f" one\ntwo{END} three{END}"
    text = TrainingText.build(corpus.train, ours)
    assert "".join(part for part, _ in text.spans("one two")) == "one two"


# What is refused

FOLLOW = "which this program does not follow"


@pytest.mark.parametrize(
    ("part", "value", "named"),
    [
        ("pre_tokenizer", None, "the pre_tokenizer none"),
        ("pre_tokenizer", {"type": "Metaspace", "replacement": "_"}, "the pre_tokenizer Metaspace"),
        (
            "pre_tokenizer",
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            "without use_regex",
        ),
        (
            "pre_tokenizer",
            {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}]},
            "Digits + ByteLevel",
        ),
        ("normalizer", {"type": "Replace", "pattern": {"String": "a"}}, "the normalizer Replace"),
        (
            "normalizer",
            {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "StripAccents"}]},
            "the normalizer StripAccents",
        ),
        (
            "post_processor",
            {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": END}}]},
            "TemplateProcessing, which adds tokens",
        ),
        ("post_processor", {"type": "RobertaProcessing"}, "RobertaProcessing"),
        ("model", {"type": "WordPiece", "vocab": {}}, "the model 'WordPiece'"),
        ("model", {"type": "Unigram", "vocab": []}, "the model 'Unigram'"),
        ("model", [], "the model None"),
    ],
)
def test_a_setting_that_changes_ids_and_is_not_followed_is_refused_by_name(
    part, value, named, storyteller
):
    load_tokenizer(storyteller).save(storyteller)
    described = json.loads((storyteller / "tokenizer.json").read_text(encoding="utf-8"))
    (storyteller / "tokenizer.json").write_text(json.dumps(described | {part: value}))
    with pytest.raises(UserError) as refused:
        load_tokenizer(storyteller)
    assert named in str(refused.value)
    assert FOLLOW in str(refused.value)
    assert str(storyteller / "tokenizer.json") in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"add_bos_token": True}, "add_bos_token True"),
        ({"split_special_tokens": True}, "split_special_tokens True"),
        ({"tokenizer_class": "Qwen2Tokenizer"}, "the tokenizer_class 'Qwen2Tokenizer'"),
    ],
)
def test_a_class_or_flag_that_is_not_followed_is_refused_by_name(changes, named, storyteller):
    change(storyteller / "tokenizer_config.json", **changes)
    with pytest.raises(UserError, match=FOLLOW) as refused:
        load_tokenizer(storyteller)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("added_tokens.json", {END: 8192}, "the id 8192, another file not"),
        ("added_tokens.json", {"<s1>": 5}, "an id that another token has"),
        ("added_tokens.json", {"<s1>": 8192, "<s2>": 8192}, "an id that another token has"),
        ("added_tokens.json", {"<s1>": 10**9}, "impossible"),
        ("added_tokens.json", {"<s1>": -1}, "impossible"),
        ("added_tokens.json", {"<s1>": "x"}, "an added token that is none"),
        ("added_tokens.json", {"": 8192}, "an added token that is none"),
        ("added_tokens.json", ["<s1>"], "not a JSON object"),
        ("special_tokens_map.json", [], "not a JSON object"),
        ("tokenizer_config.json", {"added_tokens_decoder": []}, "not a JSON object"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"8192": {}}}, "that is none"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"8192": {"content": "<s1>", "lstrip": "yes"}}},
            "that is none",
        ),
        ("tokenizer.json", {"added_tokens": 5, "model": {}}, "tokenizer.json"),
        ("tokenizer.json", {"model": {"vocab": {"a": "b"}, "merges": []}}, "not a table"),
        ("tokenizer.json", {"model": {"vocab": {}, "merges": [["a"]]}}, "not a merge: ['a']"),
        ("tokenizer.json", {"model": {"vocab": {}, "merges": [["a", 5]]}}, "not a merge"),
        ("tokenizer.json", {"model": {"vocab": {}, "merges": ["a b c"]}}, "not a merge: 'a b c'"),
        ("tokenizer.json", [], "not a JSON object"),
    ],
)
def test_a_broken_file_of_added_tokens_is_refused(name, content, message, storyteller):
    (storyteller / name).write_text(json.dumps(content))
    with pytest.raises(UserError) as refused:
        load_tokenizer(storyteller)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_the_files_of_two_tokenizers_in_one_folder_are_refused(name, storyteller):
    """One program would read tokenizer.json, another the older files, and the ids would differ."""
    load_tokenizer(storyteller).save(storyteller)
    gpt2_tokenizer().save(storyteller.parent)
    shutil.copy(storyteller.parent / name, storyteller / name)
    with pytest.raises(UserError, match=rf"{name} and tokenizer.json beside it are of two"):
        load_tokenizer(storyteller)


def test_tokens_that_were_added_to_a_model_that_was_not_resized_are_named(make_model, tmp_path):
    plain = load_tokenizer(STORYTELLER_FOLDER)
    save_model(tmp_path, make_model(vocab_size=8192), plain)
    change(tmp_path / "added_tokens.json", **{"[PAD]": 8192})
    with pytest.raises(UserError, match=r"the last is '\[PAD\]'\) and the model not resized"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["vocab.txt", "spiece.model"])
def test_another_kind_of_tokenizer_is_named(name, tmp_path):
    (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match=f"only {name} "):
        load_tokenizer(tmp_path)


def test_flags_of_transformers_own_type_are_read(storyteller):
    theirs = AutoTokenizer.from_pretrained(storyteller)
    theirs.add_special_tokens({"mask_token": TheirAddedToken("<mask>", lstrip=True)})
    theirs.save_pretrained(storyteller / "saved")
    ours = load_tokenizer(storyteller / "saved")
    assert ours.encode("a  <mask> b") == theirs("a  <mask> b")["input_ids"]
    assert dict(ours.settings.roles)["mask_token"] == "<mask>"
