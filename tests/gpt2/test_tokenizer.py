"""Tokenizers against the `tokenizers` library, which shares no code with tiktoken."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from pathlib import Path

import pytest
import tokenizers
import transformers
from tokenizers import models, pre_tokenizers, trainers

from gpt2.errors import UserError
from gpt2.tokenizer import (
    GPT2_VOCABULARY,
    BytePairTokenizer,
    CharacterTokenizer,
    gpt2_tokenizer,
    load_tokenizer,
)
from train.vocabulary import learn_vocabulary

END = "<|endoftext|>"
MERGES_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"


def published_byte_order() -> list[str]:
    """The stand-ins of the 256 bytes in id order, from their description: those that Latin-1
    prints, by code; then the others, named U+0100 on."""
    prints = [code for code in range(256) if chr(code).isprintable() and chr(code) != " "]
    return [chr(code) for code in prints] + [chr(256 + i) for i in range(256 - len(prints))]


def oracle(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    """Byte-level BPE with no special token: what user text must become."""
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def assert_equal_ids(ours, theirs: tokenizers.Tokenizer, texts: list[str]) -> None:
    for start in range(0, len(texts), 5000):
        some = texts[start : start + 5000]
        for text, expected in zip(some, theirs.encode_batch_fast(some)):
            ids = ours.encode(text)
            assert ids == expected.ids, repr(text)
            assert ours.decode(ids) == text, repr(text)


@pytest.fixture(scope="module")
def ours() -> BytePairTokenizer:
    return gpt2_tokenizer()


@pytest.fixture(scope="module")
def published() -> dict[str, int]:
    """vocab.json of the release, built here from the merges and its known layout."""
    lines = (GPT2_VOCABULARY / "merges.txt").read_text(encoding="utf-8").split("\n")[1:-1]
    tokens = [*published_byte_order(), *(line.replace(" ", "") for line in lines), END]
    return {token: index for index, token in enumerate(tokens)}


@pytest.fixture(scope="module")
def theirs(published) -> tokenizers.Tokenizer:
    lines = (GPT2_VOCABULARY / "merges.txt").read_text(encoding="utf-8").split("\n")[1:-1]
    return oracle(published, [tuple(line.split(" ")) for line in lines])


SCRIPTS = [
    (0x20, 0x7F), (0xA0, 0x180), (0x370, 0x400), (0x400, 0x500), (0x530, 0x590), (0x590, 0x600),
    (0x600, 0x700), (0x900, 0x980), (0xE00, 0xE80), (0x10A0, 0x1100), (0x1100, 0x1200),
    (0x1E00, 0x2000), (0x2000, 0x2070), (0x2190, 0x2200), (0x3040, 0x3100), (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A4), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F300, 0x1F700), (0x20000, 0x2A6DF),
]  # fmt: skip
SPACES = [" ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\x85", "\xa0", "\u2003", "\u2028", "\u3000"]
NO_SPACES = ["\u200b", "\u180e", "\ufeff", "\x1c", "\x1f", "\u2060"]  # look blank or once counted
WORDS = ["the", "Hello", "world", "don", "we", "I", "naïve", "ﬁ", "ǅ", "ß", "x1", "GPT", END, "<|"]
ENDINGS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE", "’s", "'", "''s", "'x", " 's"]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "❤️", "1️⃣", "☃", "\u200d", "\ufe0f"]
DIGITS = ["0", "42", "3.14", "1,000", "٣", "५", "²", "½", "Ⅷ", "一", "𝟙"]
MARKS = ["\u0301", "e\u0301", "\u0300\u0316", "\u20dd", "\u093f", "\u0e33", "\u0591", "\u3099"]


def random_text(choose: random.Random) -> str:
    def run(of: list[str]) -> str:
        return "".join(choose.choices(of, k=choose.randint(1, 4)))

    def script() -> str:
        low, high = choose.choice(SCRIPTS)
        return "".join(chr(choose.randrange(low, high)) for _ in range(choose.randint(1, 6)))

    def anywhere() -> str:
        code = choose.randrange(choose.choice([0x100, 0x3000, 0x10000, sys.maxunicode + 1]))
        return "" if 0xD800 <= code < 0xE000 else chr(code)

    kinds = [
        lambda: choose.choice(WORDS) + choose.choice(ENDINGS),
        lambda: choose.choice([" ", ""]) + choose.choice(WORDS),
        lambda: run(SPACES),
        lambda: choose.choice(SPACES) * choose.randint(1, 9),
        lambda: run(NO_SPACES),
        lambda: run(EMOJI),
        lambda: run(DIGITS),
        lambda: run(MARKS),
        lambda: run(list("!?.,;:-_()[]{}<>|/\\@#$%^&*+=~`\"'")),
        lambda: chr(choose.randrange(0x20)),
        script,
        anywhere,
    ]
    return "".join(choose.choice(kinds)() for _ in range(choose.randint(1, 9)))


def random_texts(count: int, seed: int) -> list[str]:
    choose = random.Random(seed)
    return [random_text(choose) for _ in range(count)]


# GPT-2's vocabulary


def test_the_bundled_merges_are_the_released_ones(ours):
    raw = (GPT2_VOCABULARY / "merges.txt").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == MERGES_SHA256
    assert (ours.vocab_size, ours.end_of_text) == (50257, 50256)


def test_ids_are_those_that_gpt2_was_trained_on(ours, published):
    """A few known by heart from OpenAI's release, which fix the whole layout; then all of them."""
    assert ours.encode("Hello world") == [15496, 995]
    assert ours.encode("Hello, I'm a language model,") == [
        15496,
        11,
        314,
        1101,
        257,
        3303,
        2746,
        11,
    ]
    assert ours.encode("!") == [0]
    assert ours.encode(" \n") == [220, 198]
    assert ours.vocabulary == published


def test_100_000_random_unicode_texts_have_the_ids_of_tokenizers_and_come_back(ours, theirs):
    texts = random_texts(100_000, seed=1)
    seen = set("".join(texts))
    assert len({ord(character) >> 16 for character in seen}) == 17, "not every plane was met"
    assert len(set(texts)) > 90_000
    assert_equal_ids(ours, theirs, texts)


def test_every_id_has_its_bytes_and_comes_back_from_its_text(ours, theirs, published):
    byte_of = {stand_in: i for i, stand_in in enumerate(published_byte_order())}
    latin = [code for code in range(256) if chr(code).isprintable() and chr(code) != " "]
    codes = latin + [code for code in range(256) if code not in latin]
    texts, others = {}, []
    for token, index in published.items():
        if index == ours.end_of_text:
            continue
        raw = bytes(codes[byte_of[character]] for character in token)
        assert ours.decode_bytes([index]) == raw
        try:
            texts[index] = raw.decode("utf-8")
        except UnicodeDecodeError:
            others.append(index)
            assert "\ufffd" in ours.decode([index])
    assert ours.decode_bytes([ours.end_of_text]) == END.encode()
    assert len(texts) + len(others) == 50256
    changed = [index for index, text in texts.items() if ours.encode(text) != [index]]
    assert_equal_ids(ours, theirs, list(texts.values()))
    assert [texts[index] for index in changed] == []


def test_end_of_text_typed_by_a_user_is_only_characters(ours):
    """Else anyone could end the model's text, or a file from the web could part documents."""
    ids = ours.encode(END)
    assert ids == [27, 91, 437, 1659, 5239, 91, 29]
    many = ours.encode(END * 10_000)
    assert ours.end_of_text not in many
    assert ours.decode(many) == END * 10_000
    around = ours.encode(f"a {END}\n{END} b")
    assert ours.end_of_text not in around


@pytest.mark.parametrize(
    ("text", "named"),
    [("\ud800", "U+D800, at position 0"), ("ab\udfffc", "U+DFFF, at position 2")],
)
def test_half_a_surrogate_pair_is_refused_by_its_place(text, named, ours):
    with pytest.raises(UserError) as refused:
        ours.encode(text)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    "unit",
    ["^", " ", "a", "\n", "\u0301", "👩‍👩‍👧‍👦", "aB", "1", "^ ", " \n", "'s", "\0"],
    ids=ascii,
)
def test_a_megabyte_of_one_thing_is_encoded_right_and_soon(unit, ours, theirs):
    """Patterns and merges can take quadratic time on such texts: hours, not seconds."""
    text = unit * (1_000_000 // len(unit.encode()))
    begun = time.monotonic()
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    assert time.monotonic() - begun < 20
    part = text[:3000] + "x"
    assert ours.encode(part) == theirs.encode(part).ids
    assert ours.encode(text[:3000]) == theirs.encode(text[:3000]).ids


# Other byte-pair vocabularies

CORPUS = [
    "The quick brown fox jumps over the lazy dog, doesn't it? " * 3,
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.\n" * 3,
    "Любя, съешь щипцы, — вздохнёт мэр, — кайф жгуч. " * 3,
    "いろはにほへと ちりぬるを 色は匂へど 散りぬるを " * 3,
    "1 22 333 4444 ... !!! ??? 👍🏽👩‍👩‍👧‍👦😀 \t\t\n\n   end aaaaaaaaaaaaa bananana ababab",
]


def trained(size: int, special: list[str]) -> tokenizers.Tokenizer:
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    learner.train_from_iterator(CORPUS, trainer)
    return learner


def plain(learner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same table without its special tokens."""
    model = json.loads(learner.to_str())["model"]
    return oracle(model["vocab"], [tuple(pair) for pair in model["merges"]])


TEXTS = [*CORPUS, *random_texts(3000, seed=2)]


@pytest.mark.parametrize(
    ("special", "end"), [([END], 0), ([], None)], ids=["end of text first", "no end of text"]
)
def test_a_vocabulary_trained_and_saved_by_tokenizers_gives_its_ids(special, end, tmp_path):
    """Its ids are in another order than the merges: end of text first, then the bytes."""
    learner = trained(600, special)
    learner.model.save(str(tmp_path))
    ours = load_tokenizer(tmp_path)
    assert (ours.vocab_size, ours.end_of_text) == (learner.get_vocab_size(), end)
    assert_equal_ids(ours, plain(learner), TEXTS)
    assert end is None or ours.decode_bytes([end]) == END.encode()


def test_a_vocabulary_in_a_shuffled_order_gives_the_ids_of_tokenizers(tmp_path):
    model = json.loads(trained(500, []).to_str())["model"]
    ids = list(range(len(model["vocab"]) + 1))
    random.Random(3).shuffle(ids)
    vocabulary = dict(zip([*model["vocab"], END], ids))
    merges = [tuple(pair) for pair in model["merges"]]
    ours = BytePairTokenizer(vocabulary, merges)
    assert ours.end_of_text == vocabulary[END] != len(ids) - 1
    assert_equal_ids(ours, oracle(vocabulary, merges), TEXTS)

    ours.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.vocabulary == vocabulary
    assert [again.encode(text) for text in TEXTS] == [ours.encode(text) for text in TEXTS]
    assert all(again.decode_bytes([i]) == ours.decode_bytes([i]) for i in ids)


def test_a_learned_vocabulary_is_that_of_tokenizers_in_the_layout_of_gpt2():
    ours = learn_vocabulary(CORPUS, 450)
    learner = trained(449, [])
    assert ours.vocab_size == 450
    assert ours.end_of_text == 449
    assert list(ours.vocabulary)[:256] == published_byte_order()
    assert ours.merges == [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    theirs = plain(learner)
    for text in TEXTS:
        tokens = theirs.encode(text).tokens
        assert ours.encode(text) == [ours.vocabulary[token] for token in tokens]
        assert ours.decode(ours.encode(text)) == text


def test_bytes_alone_are_a_vocabulary():
    ours = BytePairTokenizer({token: i for i, token in enumerate(published_byte_order())}, [])
    text = "Ab é😀\n"
    assert ours.vocab_size == 256
    assert ours.end_of_text is None
    assert len(ours.encode(text)) == len(text.encode())
    assert ours.decode(ours.encode(text)) == text


def test_saving_writes_the_published_files(ours, published, tmp_path):
    ours.save(tmp_path)
    assert (tmp_path / "merges.txt").read_bytes() == (GPT2_VOCABULARY / "merges.txt").read_bytes()
    assert json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8")) == published


# Broken tables

BYTES = published_byte_order()


def table(*more: str) -> dict[str, int]:
    return {token: index for index, token in enumerate([*BYTES, *more])}


def without(token: str) -> dict[str, int]:
    return {token: i for i, token in enumerate(t for t in table("ab") if t != token)}


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        (table("ab"), [("a", "b"), ("a", "b")], "the same token twice"),
        (table("abc", "ab", "bc"), [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")], "twice"),
        (table("a"), [], "not 0 to 255"),
        (table("abc"), [("ab", "c")], "merge 1 joins 'ab' and 'c'"),
        (table("ab", "abc"), [("ab", "c"), ("a", "b")], "merge 1 joins"),
        (table("aж"), [("a", "ж")], "merge 1 joins"),
        (table(), [("a", "b")], "lacks 1 tokens, the first 'ab'"),
        (without("Q"), [("a", "b")], "lacks 1 tokens, the first 'Q'"),
        (without("a"), [("a", "b")], "lacks 1 tokens, the first 'a'"),
        ({**table("ab"), "ab": 300}, [("a", "b")], "not 0 to 256"),
        ({**table("ab"), "ab": 5}, [("a", "b")], "not 0 to 256"),
        ({**table("ab"), "ab": -1}, [("a", "b")], "not 0 to 256"),
        (table("ab", "extra"), [("a", "b")], "'extra', which no merge makes"),
        (table("ab", END, "extra"), [("a", "b")], "'extra', which no merge makes"),
    ],
)
def test_a_broken_table_is_refused_and_says_why(vocabulary, merges, message, tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(UserError) as refused:
        load_tokenizer(tmp_path)
    assert message in str(refused.value)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("seed", range(300))
def test_a_table_gives_the_ids_of_tokenizers_or_is_refused(seed):
    """tiktoken joins whatever spells a token; byte-pair encoding only the listed pairs. Tables
    whose merges contradict each other (no learner makes them) would silently differ."""
    choose = random.Random(seed)
    tokens, merges = ["a", "b", "c"], []
    for _ in range(choose.randint(2, 9)):
        left, right = choose.choice(tokens), choose.choice(tokens)
        if left + right not in tokens and len(left + right) < 9:
            tokens.append(left + right)
            merges.append((left, right))
    vocabulary = table(*tokens[3:])
    theirs = oracle(vocabulary, merges)
    words = ["".join(choose.choices("abc", k=choose.randint(1, 12))) for _ in range(300)]
    words += [token * n for token in tokens for n in (1, 2, 3)] + [
        one + two for one in tokens for two in tokens
    ]
    # A contradiction shows at once: some listed merge does not make its own token.
    contradictory = [
        line
        for line, (left, right) in enumerate(merges, start=1)
        if theirs.encode(left + right).tokens != [left + right]
    ]
    if contradictory:
        with pytest.raises(UserError, match=rf"merge {contradictory[0]} can never happen"):
            BytePairTokenizer(vocabulary, merges)
    else:
        assert_equal_ids(BytePairTokenizer(vocabulary, merges), theirs, words)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("merges.txt", b"#version: 0.2\na b c\n", "not a merge: 'a b c'"),
        ("merges.txt", b"#version: 0.2\nab\n", "not a merge: 'ab'"),
        ("merges.txt", b"#version: 0.2\n\xff\xfe b\n", "cannot be read"),
        ("vocab.json", b"[1, 2]", "not a table from tokens to ids"),
        ("vocab.json", b'{"a": "0"}', "not a table from tokens to ids"),
        ("vocab.json", b'{"a": true}', "not a table from tokens to ids"),
        ("vocab.json", b'{"a": 0', "cannot be read as JSON"),
        ("vocab.json", b"", "cannot be read as JSON"),
        ("vocab.json", b"[" * 100_000, "cannot be read as JSON"),
        ("vocab.json", b"\xff", "cannot be read as JSON"),
        ("characters.json", b"{}", 'holds no list "itos"'),
        ("characters.json", b'["a"]', 'holds no list "itos"'),
        ("characters.json", b'{"itos": "abc"}', 'holds no list "itos"'),
        ("characters.json", b'{"itos": []}', "at least one character"),
        ("characters.json", b'{"itos": ["a", "b", "a"]}', "each only once"),
        ("characters.json", b'{"itos": ["a", "bc"]}', "single characters"),
        ("characters.json", b'{"itos": ["a", ""]}', "single characters"),
        ("characters.json", b'{"itos": ["a", 5]}', "single characters"),
        ("characters.json", b'{"itos": ["a", ["b"]]}', "single characters"),
    ],
)
def test_a_broken_file_is_refused_and_named(name, content, message, ours, tmp_path):
    ours.save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as refused:
        load_tokenizer(tmp_path)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_a_folder_without_a_tokenizer_says_what_belongs_there(ours, tmp_path):
    with pytest.raises(UserError, match=r"has no tokenizer: vocab.json and merges.txt"):
        load_tokenizer(tmp_path)
    ours.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UserError, match="has no tokenizer"):
        load_tokenizer(tmp_path)


# Characters


def test_a_character_table_comes_back_from_its_folder(tmp_path):
    text = 'hello wörld\n😀\u0301\0\u2028\\"'
    ours = CharacterTokenizer.from_text(text)
    assert ours.itos == sorted(set(text))
    ours.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert isinstance(again, CharacterTokenizer)
    assert (again.itos, again.stoi, again.vocab_size) == (ours.itos, ours.stoi, len(set(text)))
    ids = ours.encode(text)
    assert ids == [sorted(set(text)).index(character) for character in text]
    assert again.decode(ids) == text
    assert again.decode_bytes(ids) == text.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("abé", "'é' (U+00E9, at position 2)"),
        ("a😀b😀", "'😀' (U+1F600, at position 1)"),
        ("ab\x00", "'\\x00' (U+0000, at position 2)"),
        ("\ud800", "'\\ud800' (U+D800, at position 0)"),
        (END, "'<' (U+003C, at position 0)"),
    ],
)
def test_an_unknown_character_is_named_with_its_code_and_place(text, named):
    with pytest.raises(UserError) as refused:
        CharacterTokenizer(["a", "b"]).encode(text)
    assert named in str(refused.value)
    assert "2 characters" in str(refused.value)


def test_saving_over_another_tokenizer_leaves_only_the_new_one(ours, tmp_path):
    """A folder with two tokenizers would be read with the wrong one."""
    letters = CharacterTokenizer(["a", "b"])
    letters.save(tmp_path)
    ours.save(tmp_path)
    assert load_tokenizer(tmp_path).vocab_size == 50257
    letters.save(tmp_path)
    assert load_tokenizer(tmp_path).vocab_size == 2
    names = {path.name for path in Path(tmp_path).iterdir()}
    assert names == {"characters.json", "tokenizer.json", "tokenizer_config.json"}


def test_other_programs_open_the_tokenizer_of_a_character_model(tmp_path, characters):
    """They had none; what they do not know they leave out."""
    characters.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("The  end\n\n of a, é 'll ! <s> .", "", " x "):
        assert theirs(text)["input_ids"] == characters.encode(text)
        assert theirs.decode(characters.encode(text)) == text
    assert theirs("a☃b")["input_ids"] == characters.encode("ab")


@pytest.mark.parametrize("blank", [" ", " \n", "\u3000"])
def test_a_million_blanks_do_not_end_the_process(blank):
    """tiktoken panicked, with a BaseException that no handler of errors catches."""
    tokenizer = gpt2_tokenizer()
    text = "before" + blank * (1_000_000 // len(blank)) + "after"
    assert tokenizer.decode(tokenizer.encode(text)) == text
