"""Many rows drawn at once are each what `sample` draws alone, for any mixture of settings."""

from __future__ import annotations

import random

import pytest
import torch

from gpt2.sampling import Sampling, sample
from gpt2.sampling_rows import Draw, sample_rows


def some_sampling(choose: random.Random, seed: int) -> Sampling:
    return Sampling(
        temperature=choose.choice([0, 1e-3, 0.3, 0.8, 0.8, 1, 7.5]),
        top_k=choose.choice([0, 1, 2, 5, 40, 40, 40, 96, 97, 500]),
        top_p=choose.choice([1e-9, 0.1, 0.5, 0.95, 0.95, 1]),
        min_p=choose.choice([0, 0, 0, 0.02, 0.3, 1]),
        repetition_penalty=choose.choice([1, 1.1, 1.1, 1.7, 0.6]),
        seed=seed,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("trial", range(40))
def test_each_row_is_drawn_as_alone(trial, dtype):
    """bfloat16 has many ties among the likeliest, which must fall alike."""
    choose = random.Random(trial)
    noise = torch.Generator().manual_seed(trial)
    rows = choose.choice([1, 2, 3, 8, 32])
    logits = (torch.randn(rows, 97, generator=noise) * choose.choice([0.01, 1, 30])).to(dtype)
    contexts = torch.randint(97, (rows, 33), generator=noise)
    how = [some_sampling(choose, seed) for seed in range(rows)]
    if trial % 2:  # all alike, as visitors who leave the settings as they are
        how = [how[0]] * rows
    alone, together = ([torch.Generator().manual_seed(i) for i in range(rows)] for _ in range(2))
    for _ in range(5):
        expected = [sample(logits[row], contexts[row], how[row], alone[row]) for row in range(rows)]
        draws = [Draw(*given) for given in zip(contexts, how, together)]
        assert sample_rows(logits, draws) == expected


def test_the_shares_agree_to_the_last_bit():
    """Draws alone would show a difference in the last bit once in 1e16 times."""
    from gpt2.sampling import candidates
    from gpt2.sampling_rows import _likeliest

    choose, noise = random.Random(1), torch.Generator().manual_seed(1)
    for _ in range(50):
        logits = torch.randn(32, 300, generator=noise) * 3
        how = [
            Sampling(
                top_k=40,
                temperature=choose.uniform(0.1, 2),
                top_p=choose.choice([choose.random(), 1]),
                min_p=choose.choice([0, choose.random() / 9]),
                repetition_penalty=1,
            )
            for _ in range(32)
        ]
        draws = [Draw(torch.zeros(1, dtype=torch.int64), one, torch.Generator()) for one in how]
        ids, count, shares = _likeliest(logits, draws, list(range(32)), 40)
        for row, one in enumerate(how):
            kept = candidates(logits[row], one.temperature, 40, one.top_p, one.min_p)
            assert count[row] == len(kept.ids)
            assert torch.equal(ids[row, : count[row]], kept.ids)
            assert torch.equal(shares[row, : count[row]], kept.probabilities)


def test_a_call_that_fails_has_used_no_generator():
    """The rows are then drawn one by one, and must not have lost a number."""
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    before = [one.get_state() for one in generators]
    beyond = [torch.tensor([5]), torch.tensor([50_000])]
    draws = [Draw(*given) for given in zip(beyond, [Sampling()] * 2, generators)]
    with pytest.raises((RuntimeError, IndexError)):
        sample_rows(torch.randn(2, 97), draws)
    assert all(torch.equal(old, one.get_state()) for old, one in zip(before, generators))
