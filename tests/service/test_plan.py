"""What a run is planned to cost."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
import torch

from gpt2.errors import UserError
from gpt2.folder import empty_model
from gpt2.model import SIZES, ModelConfig
from service import limits as limits_module
from service import pace
from service.pace import Pace, find_pace
from service.plan import disk, first_config, make_plan, memory
from service.request import EFFORTS
from tests.support.toy_runs import LIMITS, QUICK
from train.config import TrainConfig

STORYTELLER = ModelConfig(vocab_size=8192, n_positions=256, n_embd=256, n_layer=4, n_head=4)
SLOW = Pace(window=0.15, update=0.02, evaluation=0.06)  # of the storyteller on one slow core
VERY_SLOW = Pace(window=3.6, update=0.5, evaluation=1.4)  # of 124M there


@pytest.fixture
def paced():
    """A function: the plan of a model of this shape at this pace."""

    def plan(shape, pace, tokens=100_000, preset="taste", limits=LIMITS, **changes):
        config = first_config(shape, changes)
        return make_plan(shape, config, EFFORTS[preset], changes, tokens, pace, limits)

    return plan


def test_taste_of_the_bundled_model_fits_its_time(paced):
    plan = paced(STORYTELLER, SLOW)
    assert plan.seconds < 55
    assert plan.steps >= 40
    assert plan.steps * plan.seconds_per_step <= 40
    assert plan.note is None
    assert 0 < plan.validation_tokens < 10_000


def test_a_fast_machine_makes_larger_batches_and_more_steps(paced):
    slow, fast = (paced(STORYTELLER, pace) for pace in (SLOW, Pace(0.01, 0.005, 0.004)))
    assert (slow.config.batch_size, fast.config.batch_size) == (2, 8)
    assert fast.steps * 8 > slow.steps * 2
    assert fast.seconds <= slow.seconds + 1


def test_presets_are_ordered_in_time_and_steps(paced):
    for tokens in (500, 20_000, 5_000_000):
        plans = [paced(STORYTELLER, SLOW, tokens, name) for name in EFFORTS]
        trained = [p.steps * p.config.batch_size for p in plans]
        assert trained == sorted(trained)
        assert [p.seconds for p in plans] == sorted(p.seconds for p in plans)
        for plan in plans:
            assert plan.config.warmup_steps < plan.steps
            assert plan.config.micro_batch_size <= plan.config.batch_size


def test_a_short_text_is_not_read_a_hundred_times(paced):
    plan = paced(STORYTELLER, SLOW, 30_000, "thorough")
    epochs = plan.steps * plan.config.batch_size * 256 / 27_000
    assert epochs == pytest.approx(40, rel=0.05)


def test_a_large_model_is_told_to_take_long(paced):
    plan = paced(SIZES["124M"], VERY_SLOW)
    assert plan.steps == 20
    assert plan.seconds > 120
    assert plan.config.learning_rate == 5e-5
    long = paced(SIZES["124M"], VERY_SLOW, limits=replace(LIMITS, run_seconds=60))
    assert "hours" in long.note


def test_what_the_visitor_set_stands(paced):
    given = {
        "steps": 77,
        "batch_size": 3,
        "micro_batch_size": 2,
        "block_size": 64,
        "learning_rate": 1e-4,
        "evaluate_every": 5,
        "sample_every": 0,
        "warmup_steps": 9,
        "sample_tokens": 5,
        "validation_share": 0.2,
        "seed": 4,
    }
    plan = paced(STORYTELLER, SLOW, **given)
    assert {name: getattr(plan.config, name) for name in given} == given
    assert plan.config.final_learning_rate == pytest.approx(1e-5)
    assert plan.steps == 77
    kept = paced(STORYTELLER, SLOW, learning_rate=1e-4, final_learning_rate=1e-4)
    assert kept.config.final_learning_rate == 1e-4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 2, "micro_batch_size": 4}, "micro_batch_size"),
        ({"patience": 3, "evaluate_every": 0}, "patience"),
        ({"patience": 3, "validation_share": 0.0}, "patience has no effect"),
        ({"lora_alpha": 3.0}, "lora_alpha has no effect"),
        (
            {"learning_rate": 1e-4, "schedule": "constant", "final_learning_rate": 1e-5},
            "final_learning_rate has no effect",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(paced, given, message):
    with pytest.raises(UserError, match=message):
        paced(STORYTELLER, SLOW, **given)


def test_the_micro_batch_follows_the_batch_here_too():
    config = first_config(STORYTELLER, {"batch_size": 4})
    assert (config.batch_size, config.micro_batch_size) == (4, 4)
    assert first_config(STORYTELLER, {"batch_size": 64}).micro_batch_size == 8
    config = first_config(STORYTELLER, {"micro_batch_size": 16})
    assert (config.batch_size, config.micro_batch_size) == (16, 16)


@pytest.mark.parametrize(
    "given",
    [
        {"evaluate_every": 0},
        {"validation_share": 0.0},
        {"steps": 1},
        {"learning_rate": 1e-4, "schedule": "constant"},
    ],
)
def test_odd_settings_have_a_plan(paced, given):
    plan = paced(STORYTELLER, SLOW, **given, preset="thorough")
    assert plan.seconds > 0
    assert plan.validation_tokens >= 1


def test_memory_decides_the_micro_batch_and_what_is_refused(paced, monkeypatch):
    monkeypatch.setattr(limits_module, "machine_memory", lambda: 16e9)
    for name, size in (("124M", 8), ("355M", 1)):
        plan = paced(SIZES[name], VERY_SLOW, limits=replace(LIMITS, memory_share=0.6), batch_size=8)
        assert plan.config.micro_batch_size >= size
        assert plan.memory_bytes < 16e9 * 0.6
    with pytest.raises(UserError, match=r"GB of memory.*LoRA"):
        paced(SIZES["774M"], VERY_SLOW)
    lora = paced(SIZES["774M"], VERY_SLOW, lora_rank=8)
    assert lora.memory_bytes < 16e9 * 0.6


def test_memory_holds_at_least_weights_gradients_and_means():
    config = TrainConfig(block_size=256, batch_size=4, micro_batch_size=4)
    weights = empty_model(SIZES["124M"]).parameter_count()
    full = memory(SIZES["124M"], config)
    # Measured with this shape: 3.2 GB.
    assert 3.0e9 < full < 4.5e9
    assert full > 16 * weights
    assert memory(SIZES["124M"], replace(config, lora_rank=8)) < full - 11 * weights
    assert disk(SIZES["124M"], config, 10**6) > 3 * 12 * weights


def test_a_step_is_measured_once_in_a_process_of_its_own(monkeypatch):
    started = []
    run = subprocess.run

    def count(*given, **more):
        started.append(given)
        return run(*given, **more)

    monkeypatch.setattr(subprocess, "run", count)
    shape = ModelConfig(vocab_size=97, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    config = TrainConfig(block_size=16, precision="float32")
    first = find_pace(shape, config, 1)
    assert first.window > 0
    assert first.update > 0
    assert find_pace(shape, replace(config, steps=7, learning_rate=1.0, seed=3), 1) is first
    assert len(started) == 1
    # Neither does each dropout, nor each block size: the next larger power of two serves.
    half = find_pace(shape, replace(config, block_size=12, dropout=0.3), 1)
    assert half.window == pytest.approx(first.window * 12 / 16)
    assert half.update == first.update
    assert len(started) == 1


def test_while_another_step_is_measured_a_similar_one_serves(monkeypatch):
    """Once, a plan took 88 s behind 20 others with a dropout of their own each."""
    shape = ModelConfig(vocab_size=96, n_positions=64, n_embd=16, n_layer=2, n_head=2)
    monkeypatch.setattr(pace, "_measure_in_process", lambda *given: Pace(0.4, 0.1, 0.2))
    known = find_pace(shape, TrainConfig(block_size=16), 1)
    assert known == Pace(0.4, 0.1, 0.2)
    with pace._measuring:  # somebody else's
        found = find_pace(shape, TrainConfig(block_size=64), 1)
    assert found == Pace(1.6, 0.1, 0.8)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}, {"gradient_checkpointing": True}])
def test_deep_models_are_measured_by_their_first_layers(monkeypatch, changes):
    shape = ModelConfig(vocab_size=97, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    config = TrainConfig(block_size=16, precision="float32", **changes)
    cpu = torch.device("cpu")
    assert pace.measure(shape, config, cpu).window > 0
    paces = {1: Pace(3.0, 0.3, 1.0), 2: Pace(5.0, 0.4, 1.5)}
    monkeypatch.setattr(pace, "_measure", lambda shape, config, device: paces[shape.n_layer])
    deep = pace.measure(replace(shape, n_layer=12), config, cpu)
    assert (deep.window, deep.evaluation) == (25.0, 6.5)
    assert deep.update == pytest.approx(1.4)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (subprocess.TimeoutExpired("probe", 1), "takes more than"),
        (subprocess.CalledProcessError(-9, "probe"), "memory"),
    ],
)
def test_a_probe_that_dies_is_a_message(monkeypatch, error, message):
    def die(*given, **more):
        raise error

    monkeypatch.setattr(subprocess, "run", die)
    with pytest.raises(UserError, match=message):
        find_pace(STORYTELLER, TrainConfig(block_size=17), 1)


def test_the_quick_settings_of_other_tests_are_a_plan(paced):
    assert paced(STORYTELLER, SLOW, **QUICK).steps == QUICK["steps"]
