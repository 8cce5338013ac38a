"""Generation: what it yields, what it costs, and that nothing outside changes it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from gpt2.errors import UserError
from gpt2.generate import (
    MAX_PROMPT_BYTES,
    Piece,
    encode_prompt,
    generate_batch,
    generate_pieces,
    generate_text,
    generate_tokens,
)
from gpt2.model import GPT2, ModelConfig
from gpt2.sampling import Sampling, sample
from gpt2.tokenizer import (
    BytePairTokenizer,
    CharacterTokenizer,
    byte_characters,
    gpt2_tokenizer,
)

GREEDY = Sampling(temperature=0, repetition_penalty=1)
RANDOM = Sampling(temperature=1.2, top_k=0, top_p=1, seed=11)


@pytest.fixture(scope="module")
def model(make_model) -> GPT2:
    """In float64, where sums in another order do not change a draw."""
    return make_model(seed=1, dtype=torch.float64)


@pytest.fixture(scope="module")
def bytes_only() -> BytePairTokenizer:
    """Every byte is a token, and the end of a text is one: 257 ids."""
    tokens = [*byte_characters(), "<|endoftext|>"]
    return BytePairTokenizer({token: i for i, token in enumerate(tokens)}, [])


@pytest.fixture
def fed(model):
    """The tokens (B, T) of every forward of `model` in this test."""
    seen: list[torch.Tensor] = []
    hook = model.wte.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0].clone()))
    yield seen
    hook.remove()


def speaker(ids: list[int], vocab_size: int, prompt_length: int = 1) -> GPT2:
    """A real model that says `ids` whatever the prompt of that length holds.

    Its blocks and token embeddings are zero, its position embeddings point at the token to say,
    and its own head reads them: the greedy choice depends on the position alone.
    """
    spoken = sorted(set(ids)) if len(set(ids)) > 1 else sorted({*ids, (ids[0] + 1) % vocab_size})
    width = len(spoken)
    model = GPT2(
        ModelConfig(
            vocab_size, prompt_length + len(ids), width, n_layer=1, n_head=1,
            tie_word_embeddings=False,
        )
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".ln_" not in f".{name}":
                parameter.zero_()
        for index, token in enumerate(spoken):
            model.lm_head.weight[token, index] = 1.0
        for place, token in enumerate(ids):
            model.wpe.weight[prompt_length - 1 + place, spoken.index(token)] = 1.0
    return model.eval()


def say(tokenizer, ids: list[int], **sampling: object) -> list[Piece]:
    """The pieces of a model that says `ids`."""
    model = speaker(ids, tokenizer.vocab_size)
    first = tokenizer.decode([0])
    assert tokenizer.encode(first) == [0]
    how = replace(GREEDY, max_new_tokens=len(ids), **sampling)
    return list(generate_pieces(model, tokenizer, first, how))


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


# Tokens


def test_a_speaker_says_what_it_was_given():
    """The instrument of the tests below."""
    ids = [5, 3, 3, 9, 0, 5]
    model = speaker(ids, 10, prompt_length=4)
    assert list(generate_tokens(model, [1, 2, 3, 4], replace(GREEDY, max_new_tokens=6))) == ids


def test_greedy_tokens_are_the_likeliest_ones(model):
    prompt = [5, 17, 80]
    expected = list(prompt)
    with torch.no_grad():
        while len(expected) < 64:
            expected.append(int(model(torch.tensor([expected]))[0, -1].argmax()))
    sampling = replace(GREEDY, max_new_tokens=61)
    assert list(generate_tokens(model, prompt, sampling)) == expected[3:]


def window_starts(window: int, prompt: int, count: int) -> list[int]:
    """Where the context of each token begins: as documented, with the whole window until it is
    full, then with its last three quarters, which grow until the window is full again."""
    start, starts = max(0, prompt - window), []
    for length in range(prompt, prompt + count):
        if length - start > window:
            start = length - (window - window // 4)
        starts.append(start)
    return starts


@pytest.mark.parametrize("window", [1, 2, 3, 4, 7, 16, 64])
def test_tokens_past_the_window_follow_the_documented_policy(window, make_model):
    """The oracle computes every token from its whole context, without a cache."""
    model = make_model(seed=2, dtype=torch.float64, n_positions=window, n_embd=12, n_layer=1)
    sampling = replace(RANDOM, repetition_penalty=1.3, max_new_tokens=120)
    choose = random.Random(3)
    for prompt_length in sorted({1, max(1, window - 1), window, window + 1, 3 * window}):
        history = [choose.randrange(97) for _ in range(prompt_length)]
        actual = list(generate_tokens(model, history, sampling))
        generator = torch.Generator().manual_seed(sampling.seed)
        for place, start in enumerate(window_starts(window, prompt_length, 120)):
            with torch.no_grad():
                logits = model(torch.tensor([history[start:]]))[0, -1]
            history.append(sample(logits, torch.tensor(history[-window:]), sampling, generator))
            assert history[-1] == actual[place], (prompt_length, place)


def test_a_batch_past_the_window_is_as_many_single_runs(model):
    sampling = replace(RANDOM, samples=4, max_new_tokens=100)
    together = list(generate_batch(model, [1, 2, 3], sampling))
    for index in range(4):
        single = replace(sampling, samples=1, seed=sampling.seed + index)
        alone = list(generate_tokens(model, [1, 2, 3], single))
        assert alone == [row[index] for row in together]
    assert len({tuple(column) for column in zip(*together)}) == 4, "the samples are all the same"


# Cost


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("count", [1, 61, 62, 150])
@pytest.mark.parametrize("prompt_length", [1, 3, 64, 65])
def test_n_tokens_cost_exactly_n_forwards(prompt_length, count, samples, model, fed):
    """Inside the window and beyond, for one sample and for several."""
    sampling = replace(RANDOM, samples=samples, max_new_tokens=count)
    for step, _ in enumerate(generate_batch(model, [7] * prompt_length, sampling), start=1):
        assert len(fed) == step
    assert len(fed) == count
    assert len(fed[0]) == 1  # the samples' common prompt is read once
    assert all(len(tokens) == samples for tokens in fed[1:])


def test_5000_tokens_from_a_small_window_cost_linear_time(make_model):
    """Fewer than 4 tokens are read for each one made, as the module says: a rebuild reads 3/4 of a
    window and pays for a quarter of it and one."""
    model = make_model(n_positions=32, n_layer=1, n_embd=12)
    read = []
    model.wte.register_forward_hook(lambda _, inputs, out: read.append(inputs[0].numel()))
    assert len(list(generate_tokens(model, [1], replace(GREEDY, max_new_tokens=5000)))) == 5000
    assert len(read) == 5000
    assert max(read) == 24
    assert sum(read) <= 4 * 5000
    # The second half costs what the first does.
    assert abs(sum(read[:2500]) - sum(read[2500:])) <= 2 * 32


@pytest.mark.parametrize("length", [63, 64, 65, 1000])
def test_of_a_long_prompt_the_last_window_is_read(length, model, fed):
    prompt = [index * 7 % 97 for index in range(length)]
    next(generate_tokens(model, prompt, RANDOM))
    assert [tokens.tolist() for tokens in fed] == [[prompt[-64:]]]


@pytest.mark.parametrize("length", [1023, 1024, 1025])
def test_a_prompt_as_long_as_gpt2s_window_can_be_continued(length, make_model):
    model = make_model(seed=4, dtype=torch.float64, n_positions=1024, n_layer=1, n_embd=12)
    prompt = [index * 5 % 97 for index in range(length)]
    tokens = list(generate_tokens(model, prompt, replace(GREEDY, max_new_tokens=4)))
    history = list(prompt)
    for start in window_starts(1024, length, 4):
        with torch.no_grad():
            history.append(int(model(torch.tensor([history[start:]]))[0, -1].argmax()))
    assert tokens == history[length:]


def test_closing_the_generator_ends_the_computation(model, fed, characters):
    """A visitor who leaves must not keep the machine busy."""
    pieces = generate_pieces(model, characters, "abc", replace(RANDOM, max_new_tokens=1000))
    for _ in range(3):
        next(pieces)
    pieces.close()
    assert list(pieces) == []
    assert len(fed) == 3


def test_nothing_is_computed_after_the_last_sample_has_ended(characters):
    ids = characters.encode("abcXdef")
    model = speaker(ids, characters.vocab_size)
    forwards = []
    model.wte.register_forward_hook(lambda *_: forwards.append(1))
    how = replace(GREEDY, max_new_tokens=7, stop="X", samples=2)
    pieces = list(generate_pieces(model, characters, "a", how))
    assert len(forwards) == 4
    assert [piece.stop_reason for piece in pieces] == [None] * 6 + ["stop text"] * 2


# Seeds


def test_the_same_seed_gives_the_same_text_whatever_else_runs(model, characters):
    """Two visitors at once, and code that uses PyTorch's global generator in between."""
    sampling = replace(RANDOM, max_new_tokens=100)
    alone = text_of(list(generate_pieces(model, characters, "A visitor", sampling)))
    other = text_of(list(generate_pieces(model, characters, "Another", replace(sampling, seed=5))))
    one = generate_pieces(model, characters, "A visitor", sampling)
    two = generate_pieces(model, characters, "Another", replace(sampling, seed=5))
    texts = ["", ""]
    for step, (left, right) in enumerate(zip(one, two)):
        texts[0] += left.text
        texts[1] += right.text
        torch.manual_seed(step)
        torch.rand(step % 7)
    assert texts == [alone, other]


def test_generation_leaves_the_global_generator_alone(model):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(generate_tokens(model, [1, 2], RANDOM))
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_another_text(model):
    texts = {
        tuple(generate_tokens(model, [1, 2], replace(RANDOM, seed=seed, max_new_tokens=20)))
        for seed in range(20)
    }
    assert len(texts) == 20


def test_samples_end_each_at_its_own_time_and_are_the_single_runs(model, characters):
    sampling = replace(RANDOM, samples=4, stop="e", max_new_tokens=80, seed=2)
    together = list(generate_pieces(model, characters, "Once", sampling))
    for index in range(4):
        single = replace(sampling, samples=1, seed=2 + index)
        alone = list(generate_pieces(model, characters, "Once", single))
        assert [replace(piece, sample=index) for piece in alone] == [
            piece for piece in together if piece.sample == index
        ]
        assert alone[-1].stop_reason
    ends = {piece.tokens for piece in together if piece.stop_reason}
    assert len(ends) > 1, "all samples end at once: nothing is shown"


# Text


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "Zwölf",
        "日本語",
        "😀👍🏽",
        "a\u0301e",
        "👩‍👩‍👧‍👦 x",
        "\0\n\r\t",
        "a😀b日c\u200dd",
        "\ufeff",
    ],
    ids=ascii,
)
def test_pieces_are_whole_characters_that_make_up_the_text(text, bytes_only):
    """Every byte arrives as a token of its own, so a text is split at every place."""
    raw = text.encode()
    pieces = say(bytes_only, bytes_only.encode(text))
    assert text_of(pieces) == text
    assert "\ufffd" not in text_of(pieces)
    for count, piece in enumerate(pieces, start=1):
        shown = text_of(pieces[:count]).encode()
        assert raw.startswith(shown)
        assert len(raw[:count]) - len(shown) < 4  # no character is held back once it is whole
        assert piece.tokens == count
    assert [piece.stop_reason for piece in pieces] == [None] * (len(raw) - 1) + ["length"]


def test_pieces_of_any_bytes_are_what_decoding_them_whole_gives(bytes_only):
    """Also with bytes that are not UTF-8: a cut character, a lone middle byte, an overlong form."""
    choose = random.Random(5)
    parts = [
        b"a",
        b"\xff",
        b"\x80",
        b"\xc3",
        b"\xc3\xa9",
        b"\xe2\x82",
        b"\xe2\x82\xac",
        b"\xf0\x9f",
    ]
    parts += [b"\x98\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90", b" ", b"\n"]
    for _ in range(200):
        raw = b"".join(choose.choices(parts, k=choose.randint(1, 12)))
        order = list(byte_characters().values())
        ids = [order.index(byte) for byte in raw]
        assert bytes_only.decode_bytes(ids) == raw
        assert text_of(say(bytes_only, ids)) == bytes_only.decode(ids)


def test_tokens_of_gpt2_that_end_within_a_character_are_joined():
    tokenizer = gpt2_tokenizer()
    text = " naïve 日本語 👩‍👩‍👧‍👦🇩🇪 ﷽"
    ids = tokenizer.encode(text)
    assert any("\ufffd" in tokenizer.decode([token]) for token in ids)
    assert text_of(say(tokenizer, ids)) == text


def test_a_character_that_the_last_token_cuts_is_shown_as_broken_not_dropped(bytes_only):
    ids = bytes_only.encode("aé")[:2]
    pieces = say(bytes_only, ids)
    assert text_of(pieces) == "a\ufffd" == bytes_only.decode(ids)


@pytest.mark.parametrize(
    ("said", "stop", "expected"),
    [
        ("one. two", ".", "one"),
        ("one END two", "END", "one "),
        ("ENDone", "END", ""),
        ("one EN END", "END", "one EN "),  # its beginning without the rest
        ("one EN", "END", "one EN"),  # and at the very end
        ("aaab", "aab", "a"),  # begins within a false beginning
        ("abababac", "ababac", "ab"),
        ("aXbXc", "X", "a"),  # the first of several
        ("nothing", "END", "nothing"),
        ("END", "END", ""),
        ("a\n\nb", "\n\n", "a"),
        ("caféx", "é", "caf"),
        ("a😀b", "😀", "a"),
    ],
)
def test_a_text_is_cut_exactly_before_the_stop_text(said, stop, expected, bytes_only):
    """Every byte is a token, so every stop text is split across tokens."""
    pieces = say(bytes_only, bytes_only.encode(said), stop=stop)
    assert text_of(pieces) == expected
    found = stop in said
    assert pieces[-1].stop_reason == ("stop text" if found else "length")
    until = said[: said.index(stop) + len(stop)] if found else said
    assert len(pieces) == len(until.encode())  # and not one token further


def test_any_stop_text_cuts_as_splitting_the_whole_text_does(bytes_only):
    choose = random.Random(6)
    letters = CharacterTokenizer(["a", "b"])
    for _ in range(300):
        said = "".join(choose.choices("ab", k=choose.randint(1, 14)))
        stop = "".join(choose.choices("ab", k=choose.randint(1, 5)))
        assert text_of(say(letters, letters.encode(said), stop=stop)) == said.split(stop)[0]


def test_of_several_stop_texts_the_one_that_is_complete_first_cuts(bytes_only):
    """Compared with the shortest beginning of the text that holds any of them."""
    letters = CharacterTokenizer(["a", "b"])
    choose = random.Random(7)
    cut = 0
    for _ in range(300):
        said = "".join(choose.choices("ab", k=choose.randint(1, 14)))
        count = choose.randint(1, 4)
        stops = ["".join(choose.choices("ab", k=choose.randint(1, 5))) for _ in range(count)]
        heads = (said[:end] for end in range(len(said) + 1))
        head = next((head for head in heads if any(stop in head for stop in stops)), None)
        expected = said if head is None else head[: min(
            head.index(stop) for stop in stops if stop in head
        )]  # fmt: skip
        pieces = say(letters, letters.encode(said), stop=stops)
        assert text_of(pieces) == expected, (said, stops)
        assert pieces[-1].stop_reason == ("length" if head is None else "stop text")
        cut += head is not None
    assert 100 < cut < 300
    pieces = say(bytes_only, bytes_only.encode("one. two\nthree"), stop=("\n", "END", ""))
    assert text_of(pieces) == "one. two"


def test_text_is_held_back_only_while_it_may_become_the_stop_text(bytes_only):
    """A long stop text must not delay the stream."""
    pieces = say(bytes_only, bytes_only.encode("one EN two"), stop="END")
    assert [piece.text for piece in pieces] == ["o", "n", "e", " ", "", "", "EN ", "t", "w", "o"]


def test_a_stop_text_within_one_token_and_across_long_tokens():
    tokenizer = gpt2_tokenizer()
    ids = [*tokenizer.encode(" hello"), *tokenizer.encode(" world"), *tokenizer.encode(" again")]
    assert len(ids) == 3
    for stop, expected in [("orl", " hello w"), ("o w", " hell"), ("worlds", " hello world again")]:
        assert text_of(say(tokenizer, ids, stop=stop)) == expected


def test_the_end_of_text_ends_the_text_unless_it_is_asked_not_to(bytes_only):
    end = bytes_only.end_of_text
    ids = [*bytes_only.encode("one"), end, *bytes_only.encode("two")]
    pieces = say(bytes_only, ids)
    assert text_of(pieces) == "one"
    assert [piece.stop_reason for piece in pieces] == [None, None, None, "end of text"]
    pieces = say(bytes_only, ids, stop_at_end_of_text=False)
    assert text_of(pieces) == "one<|endoftext|>two"
    assert pieces[-1].stop_reason == "length"


def test_the_held_beginning_of_a_stop_text_is_shown_at_the_end_of_text(bytes_only):
    ids = [*bytes_only.encode("one EN"), bytes_only.end_of_text, 0]
    pieces = say(bytes_only, ids, stop="END")
    assert text_of(pieces) == "one EN"
    assert pieces[-1].stop_reason == "end of text"


def test_generate_text_is_the_text_of_the_pieces(model, characters):
    sampling = replace(RANDOM, max_new_tokens=50)
    pieces = list(generate_pieces(model, characters, "Hi", sampling))
    streamed = list(generate_text(model, characters, "Hi", replace(sampling, samples=3)))
    assert "".join(streamed) == text_of(pieces)
    assert all(streamed)
    ids = list(generate_tokens(model, characters.encode("Hi"), sampling))
    assert characters.decode(ids) == text_of(pieces)


def test_a_model_with_more_rows_than_its_tokenizer_has_ids_says_only_known_ones(make_model):
    """Vocabularies are often padded, 50257 to 50304; the rows beyond have no text."""
    letters = CharacterTokenizer(["a", "b", "c"])
    model = make_model(seed=7, vocab_size=97)
    for sampling in (GREEDY, replace(RANDOM, max_new_tokens=200)):
        pieces = list(generate_pieces(model, letters, "ab", sampling))
        assert set(text_of(pieces)) <= set("abc")
        assert len(pieces) == sampling.max_new_tokens


# Prompts


def test_an_empty_prompt_starts_after_the_end_of_a_text(make_model, bytes_only):
    model = make_model(vocab_size=257)
    read = []
    model.wte.register_forward_hook(lambda _, inputs, out: read.append(inputs[0].tolist()))
    pieces = list(generate_pieces(model, bytes_only, "", replace(RANDOM, max_new_tokens=3)))
    assert len(pieces) == 3
    assert read[0] == [[256]]
    assert encode_prompt(gpt2_tokenizer(), "") == [50256]


def test_an_empty_prompt_of_a_character_model_starts_a_new_line():
    assert encode_prompt(CharacterTokenizer(["a", "b", "\n"]), "") == [2]
    letters = CharacterTokenizer(["a", "b"])  # without a new line, somewhere
    assert encode_prompt(letters, "") == [0]
    assert len(say(letters, [0, 1, 0])) == 3
    model = speaker([1, 0], 2)
    assert "".join(generate_text(model, letters, "", replace(GREEDY, max_new_tokens=2))) == "ba"


def test_end_of_text_in_a_prompt_is_read_as_characters(bytes_only):
    assert encode_prompt(bytes_only, "a<|endoftext|>") == bytes_only.encode("a<|endoftext|>")
    assert bytes_only.end_of_text not in encode_prompt(bytes_only, "<|endoftext|>" * 100)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a" * (MAX_PROMPT_BYTES + 1), "400,001 bytes"),
        ("é" * (MAX_PROMPT_BYTES // 2 + 1), "400,002 bytes"),
        ("ab\ud800", "U+D800, at position 2"),
        (None, "must be a text"),
        (b"bytes", "must be a text"),
        (["list"], "must be a text"),
        (5, "must be a text"),
    ],
    ids=["too long", "too long in bytes", "surrogate", "none", "bytes", "list", "number"],
)
def test_an_unusable_prompt_is_refused_before_anything_is_computed(
    prompt, message, model, fed, bytes_only
):
    with pytest.raises(UserError) as refused:
        next(generate_pieces(model, bytes_only, prompt, RANDOM))
    assert message in str(refused.value)
    assert len(str(refused.value)) < 300
    assert fed == []


def test_the_longest_prompt_is_still_read(bytes_only):
    assert len(encode_prompt(bytes_only, "é" * (MAX_PROMPT_BYTES // 2))) == MAX_PROMPT_BYTES


def test_a_character_that_the_model_does_not_know_is_refused_by_name(model, fed, characters):
    with pytest.raises(UserError, match=r"U\+1F600, at position 2"):
        next(generate_pieces(model, characters, "hi😀", RANDOM))
    assert fed == []


# Prompts that end in a space


@pytest.fixture(scope="module")
def words() -> BytePairTokenizer:
    """All bytes, and " a", " b", " ab", "ab", "  " as tokens beside them."""
    characters = list(byte_characters())
    space = characters[list(byte_characters().values()).index(0x20)]
    merges = [(space, "a"), (space, "b"), (space + "a", "b"), ("a", "b"), (space, space)]
    tokens = [*characters, *(left + right for left, right in merges), "<|endoftext|>"]
    return BytePairTokenizer({token: i for i, token in enumerate(tokens)}, merges)


@pytest.fixture
def reader(make_model, words):
    """A model of those words and what it has read."""
    model = make_model(seed=5, vocab_size=words.vocab_size, dtype=torch.float64)
    read: list[list[int]] = []
    model.wte.register_forward_hook(lambda _, inputs, out: read.append(inputs[0][0].tolist()))
    return model, read


@pytest.mark.parametrize(
    ("prompt", "read_as"),
    [("a ", "a"), ("a  ", "a "), (" ", ""), ("   ", "  "), ("a\n ", "a\n"), ("é\t ", "é\t")],
)
def test_the_last_space_of_a_prompt_goes_into_the_next_token(prompt, read_as, reader, words):
    model, read = reader
    starts = set()
    for seed in range(20):
        how = replace(RANDOM, max_new_tokens=3, seed=seed)
        pieces = list(generate_pieces(model, words, prompt, how))
        assert [piece.tokens for piece in pieces] == [1, 2, 3]
        assert words.decode([read[-2][0]]).startswith(" ")  # the first of the three, fed back
        first = words.decode([read[-2][0]])
        assert pieces[0].text == first[1:]  # the typed space is not repeated
        starts.add(first)
    assert read[0] == (words.encode(read_as) if read_as else [words.end_of_text])
    assert len(starts) > 2
    assert encode_prompt(words, prompt) == read[0]  # what the page counts


def test_a_prompt_that_ends_otherwise_is_read_as_it_is(reader, words):
    model, read = reader
    for prompt in ("a", "a\n", "a \n", "a\t", "a\u00a0", "  a"):
        next(generate_pieces(model, words, prompt, RANDOM))
        assert read.pop() == words.encode(prompt)


def test_a_vocabulary_without_words_reads_the_space(make_model, bytes_only, characters):
    """Nothing is lost where a space is a token of its own, always."""
    assert encode_prompt(bytes_only, "a  ") == bytes_only.encode("a  ")
    assert encode_prompt(characters, "a ") == characters.encode("a ")


def test_ids_are_never_changed(reader, words):
    model, read = reader
    next(generate_tokens(model, words.encode("a "), RANDOM))
    assert read == [words.encode("a ")]


def test_where_the_next_token_has_a_space_anyway_a_seed_says_the_same(reader, words):
    """Greedy too; elsewhere the first token is drawn again, among those with a space."""
    model, _ = reader
    same = 0
    for seed in range(200):
        how = replace(RANDOM, max_new_tokens=6, seed=seed, temperature=0 if seed == 0 else 1.2)
        plain = text_of(list(generate_pieces(model, words, "ab", how)))
        spaced = text_of(list(generate_pieces(model, words, "ab ", how)))
        if plain.startswith(" "):
            same += 1
            assert spaced == plain[1:]
    assert same >= 3


def test_the_drawn_words_have_the_shares_that_the_model_gives_them(make_model, words):
    """Among the tokens that begin with a space, as if the others did not exist."""
    model = make_model(seed=6, vocab_size=words.vocab_size, dtype=torch.float64, scale=0.5)
    with torch.no_grad():
        logits = model(torch.tensor([words.encode("a")]))[0, -1]
    wanted = {i: words.decode([i]) for i in range(words.vocab_size)}
    wanted = {i: text for i, text in wanted.items() if text.startswith(" ")}
    shares = logits[list(wanted)].softmax(0).tolist()
    counts = dict.fromkeys(wanted.values(), 0)
    for seed in range(0, 1600, 16):
        how = Sampling(1, 1.0, 0, 1.0, 1.0, seed, samples=16)
        for piece in generate_pieces(model, words, "a ", how):
            counts[" " + piece.text] += 1
    for text, share in zip(wanted.values(), shares):
        assert counts[text] / 1600 == pytest.approx(share, abs=0.05), text


def test_samples_stop_texts_and_narrow_choices_after_a_space(reader, words):
    model, _ = reader
    for how in (
        replace(GREEDY, max_new_tokens=4),
        replace(RANDOM, top_k=1, max_new_tokens=4),
        replace(RANDOM, top_p=1e-9, max_new_tokens=4),
        replace(RANDOM, min_p=1.0, repetition_penalty=5, max_new_tokens=4),
    ):
        alone = text_of(list(generate_pieces(model, words, "ab ", how)))
        three = list(generate_pieces(model, words, "ab ", replace(how, samples=3)))
        assert text_of([piece for piece in three if piece.sample == 0]) == alone
        assert {piece.tokens for piece in three} == {1, 2, 3, 4}
    # The space was typed: a stop text is looked for behind it.
    nine = replace(GREEDY, max_new_tokens=9)
    whole = text_of(list(generate_pieces(model, words, "ab ", nine)))
    stop = whole[3:5]
    stopped = replace(nine, stop=(" " + whole[:2], stop))
    assert text_of(list(generate_pieces(model, words, "ab ", stopped))) == whole.split(stop)[0]
