"""From logits to a token, against numpy in float64 and against `transformers`."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from transformers.generation import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gpt2.errors import UserError
from gpt2.sampling import (
    MAX_NEW_TOKENS,
    MAX_SAMPLES,
    Candidates,
    Sampling,
    candidates,
    draw,
    invert,
    penalize,
    resolve_seed,
    sample,
)


def reference(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> dict[int, float]:
    """The kept tokens and their probabilities, from the definitions, in float64."""
    scaled = logits.astype(np.float64) / temperature
    order = np.argsort(-scaled, kind="stable")
    if top_k:
        order = order[:top_k]
    shares = np.exp(scaled[order] - scaled[order[0]])
    shares /= shares.sum()
    if top_p < 1:
        # The fewest likeliest tokens that reach top_p: those before the last one do not.
        kept = 1 + int((np.cumsum(shares)[:-1] < top_p).sum())
        order, shares = order[:kept], shares[:kept] / shares[:kept].sum()
    return dict(zip(order.tolist(), shares.tolist()))


def random_logits(size: int, seed: int, spread: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator) * spread - 40  # GPT-2's logits are far below 0


def as_dict(kept: Candidates) -> dict[int, float]:
    return dict(zip(kept.ids.tolist(), kept.probabilities.tolist()))


SETTINGS = [
    (temperature, top_k, top_p)
    for temperature in (0.1, 0.8, 1.0, 2.5)
    for top_k in (0, 1, 2, 40, 1000, 10**6)
    for top_p in (1e-9, 0.1, 0.5, 0.9, 0.99, 1.0)
]


@pytest.mark.parametrize("size", [2, 5, 97, 2000, 50257])
def test_the_kept_set_is_that_of_the_definitions(size):
    """Exactly the same tokens, in 144 settings each, from float32 logits."""
    for seed, setting in enumerate(SETTINGS):
        logits = random_logits(size, seed)
        kept = candidates(logits, *setting)
        expected = reference(logits.numpy(), *setting)
        actual = as_dict(kept)
        assert len(kept.ids) == len(actual), "a token is kept twice"
        assert actual.keys() == expected.keys(), setting
        shares = [[of[token] for token in expected] for of in (actual, expected)]
        np.testing.assert_allclose(*shares, rtol=1e-9, err_msg=str(setting))
        assert kept.probabilities.sum().item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("size", [5, 97, 5000])
def test_the_kept_set_is_that_of_transformers(size):
    """It computes in the type of the logits: float64 here, so that no rounding moves an edge."""
    for seed, (temperature, top_k, top_p) in enumerate(SETTINGS):
        logits = random_logits(size, 1000 + seed)
        scores = TemperatureLogitsWarper(temperature)(None, logits[None].double())
        if top_k:
            scores = TopKLogitsWarper(top_k)(None, scores)
        if top_p < 1:
            scores = TopPLogitsWarper(top_p)(None, scores)
        expected = scores[0].softmax(0)
        kept = candidates(logits, temperature, top_k, top_p)
        setting = (temperature, top_k, top_p)
        assert set(kept.ids.tolist()) == set(scores[0].isfinite().nonzero()[:, 0].tolist()), setting
        assert torch.allclose(kept.probabilities, expected[kept.ids], rtol=1e-3, atol=1e-6), setting


@pytest.mark.parametrize("min_p", [0.001, 0.05, 0.3, 1.0])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (40, 0.95)])
def test_min_p_keeps_what_transformers_keeps(top_k, top_p, min_p):
    for seed, temperature in itertools.product(range(5), (0.5, 1.0, 1.7)):
        logits = random_logits(997, seed=seed, spread=3.0)
        scores = TemperatureLogitsWarper(temperature)(None, logits[None])
        if top_k:
            scores = TopPLogitsWarper(top_p)(None, TopKLogitsWarper(top_k)(None, scores))
        scores = MinPLogitsWarper(min_p)(None, scores)
        kept = candidates(logits, temperature, top_k, top_p, min_p)
        assert set(kept.ids.tolist()) == set(scores[0].isfinite().nonzero()[:, 0].tolist())
        expected = scores[0].softmax(0)[kept.ids]
        assert torch.allclose(kept.probabilities, expected.double(), rtol=1e-3, atol=1e-6)


def test_a_flat_distribution_keeps_the_tail_that_top_p_asks_for():
    """Of 50257 nearly equal tokens 90 % are needed, far more than the likeliest 1024."""
    logits = random_logits(50257, seed=5, spread=0.01)
    kept = candidates(logits, 1.0, 0, 0.9)
    assert 44_000 < len(set(kept.ids.tolist())) == len(kept.ids) < 46_000
    # Some logits are equal, so that the last token may be one or the other: compare the shares.
    expected = reference(logits.numpy(), 1.0, 0, 0.9)
    assert kept.probabilities.tolist() == pytest.approx(list(expected.values()), rel=1e-9)
    assert set(kept.ids[:44_000].tolist()) <= expected.keys()


def test_ties_keep_exactly_k_tokens_and_the_fewest_that_reach_p():
    equal = torch.zeros(8)
    for top_k in (1, 3, 7):
        kept = candidates(equal, 0.7, top_k, 1.0)
        assert len(set(kept.ids.tolist())) == top_k
        assert kept.probabilities.tolist() == pytest.approx([1 / top_k] * top_k)
    for top_p, count in [(0.125, 1), (0.126, 2), (0.5, 4), (0.51, 5), (0.999, 8), (1.0, 8)]:
        kept = candidates(equal, 0.7, 0, top_p)
        assert len(set(kept.ids.tolist())) == count, top_p
        assert kept.probabilities.tolist() == pytest.approx([1 / count] * count)
    # A tie at the edge: the clear winners always stay, one of the equals with them.
    edge = torch.tensor([1.0, 3.0, 1.0, 2.0, 1.0])
    kept = candidates(edge, 1.0, 3, 1.0).ids.tolist()
    assert kept[:2] == [1, 3]
    assert kept[2] in (0, 2, 4)
    # top_k comes first: top_p looks at shares among the k, not among all.
    assert len(candidates(equal, 1.0, 2, 0.5).ids) == 1


def test_top_k_of_one_and_a_tiny_top_p_leave_the_likeliest_token():
    logits = random_logits(5000, seed=6)
    best = int(logits.argmax())
    for setting in [(1.0, 1, 1.0), (100.0, 1, 0.5), (1.0, 0, 1e-12), (100.0, 0, 5e-324)]:
        assert as_dict(candidates(logits, *setting)) == {best: 1.0}


def test_top_k_of_the_vocabulary_or_more_and_top_p_of_one_keep_everything():
    logits = random_logits(300, seed=7)
    for top_k in (0, 300, 301, 10_000_000):
        kept = as_dict(candidates(logits, 1.0, top_k, 1.0))
        assert kept == pytest.approx(dict(enumerate(logits.softmax(0).tolist())), rel=1e-5)


@pytest.mark.parametrize("temperature", [1e-30, 1e-38, 1e-45, 1e-60, 5e-324])
def test_the_smallest_temperatures_are_greedy(temperature):
    """float32 turns 1e-60 into 0, and 0 / 0 into a probability that is not a number."""
    logits = random_logits(2000, seed=8)
    best = int(logits.argmax())
    for top_k, top_p in [(0, 1.0), (40, 1.0), (0, 0.9), (40, 0.9)]:
        kept = candidates(logits, temperature, top_k, top_p)
        assert kept.probabilities.isfinite().all()
        chosen = kept.ids[kept.probabilities > 0]
        assert chosen.tolist() == [best]
    sampling = Sampling(temperature=temperature, top_k=0, top_p=1, repetition_penalty=1)
    generator = torch.Generator().manual_seed(0)
    drawn = {sample(logits, torch.tensor([0]), sampling, generator) for _ in range(20)}
    assert drawn == {best}


def test_a_temperature_of_100_is_nearly_uniform():
    kept = candidates(random_logits(10, seed=9), 100.0, 0, 1.0)
    assert kept.probabilities.tolist() == pytest.approx([0.1] * 10, rel=0.2)


# Drawing


def test_a_draw_inverts_the_distribution_at_the_generators_number():
    """The next test may then draw 100,000 numbers at once: `draw` is `invert` of one of them."""
    kept = candidates(random_logits(50, seed=10), 1.0, 30, 0.95)
    cumulative = np.cumsum(kept.probabilities.double().numpy())
    draws, numbers = (torch.Generator().manual_seed(11) for _ in range(2))
    for _ in range(3000):
        number = torch.rand((), dtype=torch.float64, generator=numbers).item()
        place = int((cumulative <= number * cumulative[-1]).sum())
        assert draw(kept, draws) == kept.ids[place]


def test_the_ends_of_the_unit_interval_fall_on_tokens_with_a_share():
    kept = Candidates(torch.tensor([7, 8, 9, 4]), torch.tensor([0.0, 0.5, 0.5, 0.0]))
    ends = torch.tensor([0.0, 0.5 - 1e-12, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert invert(kept, ends).tolist() == [8, 8, 9, 9]


CONFIGURATIONS = [
    (size, temperature, top_k, top_p, penalty)
    for size, (temperature, top_k, top_p, penalty) in zip(
        [3, 10, 60, 500, 3000] * 6,
        [
            (temperature, top_k, top_p, penalty)
            for temperature in (0.5, 1.0, 1.7)
            for top_k, top_p in [(0, 1.0), (2, 1.0), (20, 1.0), (0, 0.7), (0, 0.97)]
            for penalty in (1.0, 1.3)
        ],
    )
]


@pytest.mark.parametrize("number", range(30))
def test_100_000_draws_have_the_frequencies_of_the_probabilities(number):
    """Chi-square, at a line that all thirty together cross by chance once in 10,000 times."""
    size, temperature, top_k, top_p, penalty = CONFIGURATIONS[number]
    logits = random_logits(size, seed=100 + number, spread=1.5)
    context = torch.arange(0, size, 3)
    weakened = logits.double().numpy().copy()
    for token in context.tolist():
        weakened[token] *= penalty if weakened[token] < 0 else 1 / penalty
    expected = reference(weakened, temperature, top_k, top_p)

    kept = candidates(penalize(logits, context, penalty), temperature, top_k, top_p)
    generator = torch.Generator().manual_seed(200 + number)
    uniforms = torch.rand(100_000, dtype=torch.float64, generator=generator)
    counts = torch.bincount(invert(kept, uniforms), minlength=size).double()
    assert set(counts.nonzero()[:, 0].tolist()) <= expected.keys()

    share = torch.tensor([expected.get(token, 0.0) for token in range(size)], dtype=torch.float64)
    assert chi_square(counts, share * 100_000) > 1e-4 / 30


def chi_square(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """How probable deviations of this size or more are. Cells below 5 expected are put together."""
    small = expected < 5
    counts = torch.cat([counts[~small], counts[small].sum()[None]])
    expected = torch.cat([expected[~small], expected[small].sum()[None]])
    if expected[-1] < 5:
        counts, expected = counts[:-1], expected[:-1]
    if len(counts) == 1:
        return 1.0 if abs(counts - expected) <= 5 else 0.0
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    return torch.special.gammaincc(freedom, statistic / 2).item()


def test_the_chi_square_test_itself_accepts_and_rejects():
    """Known values: 3.841 is the 5 % point of one degree of freedom, 18.307 that of ten."""
    half = torch.tensor([0.5, 0.5], dtype=torch.float64) * 100
    shift = math.sqrt(3.841459 * 25)
    assert chi_square(half + torch.tensor([shift, -shift]), half) == pytest.approx(0.05, rel=1e-4)
    flat = torch.full((11,), 100.0, dtype=torch.float64)
    assert chi_square(flat + math.sqrt(18.307038 * 100 / 11), flat) == pytest.approx(0.05, rel=1e-4)
    # Draws that favor one of ten tokens by a tenth of its share are detected.
    share = torch.full((10,), 0.1, dtype=torch.float64)
    share[0] *= 1.1
    generator = torch.Generator().manual_seed(0)
    draws = torch.multinomial(share, 100_000, replacement=True, generator=generator)
    counts = torch.bincount(draws, minlength=10).double()
    assert chi_square(counts, torch.full((10,), 1e4, dtype=torch.float64)) < 1e-4 / 30


# Repetition penalty


@pytest.mark.parametrize("penalty", [0.01, 0.5, 1.0, 1.1, 2.0, 100.0])
def test_the_repetition_penalty_is_that_of_transformers(penalty):
    """Negative and positive logits go different ways; a token seen twice is weakened once."""
    generator = torch.Generator().manual_seed(12)
    logits = torch.randn(200, generator=generator) * 5
    context = torch.randint(0, 60, (100,), generator=generator)
    before = logits.clone()
    expected = RepetitionPenaltyLogitsProcessor(penalty)(context[None], logits[None].clone())[0]
    assert torch.equal(penalize(logits, context, penalty), expected)
    assert torch.equal(logits, before), "the caller's logits were changed"
    assert (penalty == 1.0) == torch.equal(expected, before)


def test_greedy_sampling_takes_the_likeliest_token_after_the_penalty():
    logits = torch.tensor([1.0, 5.0, 4.9])
    generator = torch.Generator().manual_seed(0)
    for penalty, token in [(1.0, 1), (1.1, 2)]:
        sampling = Sampling(temperature=0, repetition_penalty=penalty)
        assert sample(logits, torch.tensor([1, 1]), sampling, generator) == token
    assert sample(logits.bfloat16(), torch.tensor([0]), Sampling(temperature=0), generator) == 1


# Parsing

NOT_NUMBERS = [
    True,
    False,
    "1",
    "",
    None,
    [1],
    (1,),
    {"a": 1},
    1j,
    b"1",
    np.float32(1),
    np.int64(1),
]
NOT_FINITE = [math.nan, math.inf, -math.inf]
BAD_STOPS = [None, 1, True, b"a", {"a": 1}, ["a", 1], ["a" * 1001], ["a"] * 17, "\ud800"]
HUGE = [2**64, 1e300, 10**400, -(10**400), 10**5000]


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        *(("temperature", bad) for bad in [*NOT_NUMBERS, *NOT_FINITE, *HUGE, -1, -1e-9, 100.1]),
        *(
            ("top_p", bad)
            for bad in [*NOT_NUMBERS, *NOT_FINITE, *HUGE, -1, 0, 0.0, -0.0, 1.0000001]
        ),
        *(
            ("repetition_penalty", bad)
            for bad in [*NOT_NUMBERS, *NOT_FINITE, *HUGE, -1, 0, 0.009, 101]
        ),
        *(("top_k", bad) for bad in [*NOT_NUMBERS, *NOT_FINITE, *HUGE, -1, 1.5, 1e9]),
        *(
            ("max_new_tokens", bad)
            for bad in [*NOT_NUMBERS, *NOT_FINITE, *HUGE, -1, 0, 1.5, 1e9, MAX_NEW_TOKENS + 1]
        ),
        *(("seed", bad) for bad in [*NOT_NUMBERS, *NOT_FINITE, *HUGE, -1, 1.5, 2**63 - 1]),
        *(
            ("samples", bad)
            for bad in [*NOT_NUMBERS, *NOT_FINITE, *HUGE, -1, 0, 1.5, MAX_SAMPLES + 1]
        ),
        *(("min_p", bad) for bad in [*NOT_NUMBERS, *NOT_FINITE, *HUGE, -0.01, 1.01]),
        *(("stop", bad) for bad in BAD_STOPS),
        *(("stop_at_end_of_text", bad) for bad in [None, 0, 1, "true", [True]]),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_value_that_is_no_plain_number_in_range_is_refused_by_name(field, bad):
    """The values come from an open API; none may reach the arithmetic."""
    with pytest.raises(UserError) as refused:
        Sampling(**{field: bad})
    assert str(refused.value).startswith(field)
    assert len(str(refused.value)) < 200


def test_whole_numbers_may_come_as_floats_and_numbers_as_whole():
    """JSON and page sliders do not tell 40 from 40.0."""
    sampling = Sampling(
        temperature=1, top_k=40.0, top_p=1, repetition_penalty=2, max_new_tokens=5.0, seed=7.0,
        samples=2.0,
    )  # fmt: skip
    assert sampling == Sampling(
        temperature=1.0, top_k=40, top_p=1.0, repetition_penalty=2.0, max_new_tokens=5, seed=7,
        samples=2,
    )  # fmt: skip
    types = {field.name: type(getattr(sampling, field.name)) for field in fields(sampling)}
    assert [name for name, kind in types.items() if kind is float] == [
        "temperature", "top_p", "repetition_penalty", "min_p",
    ]  # fmt: skip
    assert [name for name, kind in types.items() if kind is int] == [
        "max_new_tokens", "top_k", "seed", "samples",
    ]  # fmt: skip


def test_the_ends_of_every_range_are_accepted():
    Sampling(1, 0, 0, 5e-324, 0.01, 0, 1, "", False, 0)
    last_seed = 2**63 - 1 - MAX_SAMPLES
    last = Sampling(
        MAX_NEW_TOKENS, 100, 10_000_000, 1, 100, last_seed, MAX_SAMPLES, "a" * 1000, True, 1
    )
    torch.Generator().manual_seed(last.seed + last.samples)  # the seed of every sample is one


def test_a_seed_of_minus_one_asks_for_a_fresh_one_and_nothing_else_does():
    seeds = {resolve_seed(-1) for _ in range(20)} | {resolve_seed(-1.0)}
    assert len(seeds) > 15
    for seed in seeds:
        assert Sampling(seed=seed).seed == seed
    for given in (0, 5, -2, 1.5, "x", None, True, [-1]):
        assert resolve_seed(given) is given


def test_stop_texts_come_as_one_or_several():
    assert Sampling().stop == Sampling(stop="").stop == Sampling(stop=["", ""]).stop == ()
    assert Sampling(stop="END").stop == ("END",)
    assert Sampling(stop=["a", "", "\n"]).stop == Sampling(stop=("a", "\n")).stop == ("a", "\n")
    assert Sampling(stop="\\n").stop == ("\\n",)  # escapes are for the command line and the page
    with pytest.raises(UserError, match="stop must be at most 16 texts of at most 1,000 char"):
        Sampling(stop=["a"] * 17)
