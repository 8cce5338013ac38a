"""The loop: exact, resumable, and safe against what goes wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gpt2.model import GPT2
from tests.support.toy_runs import begin_toy_run
from train.config import TrainConfig
from train.distributed import World
from train.lora import LoraLinear, add_lora, merged
from train.optimizer import learning_rate
from train.trainer import Trainer, TrainingFailed, train

TEXT = "the quick brown fox jumps over the lazy dog. " * 60
CONFIG = TrainConfig(
    steps=8,
    batch_size=8,
    micro_batch_size=8,
    block_size=16,
    learning_rate=1e-2,
    final_learning_rate=1e-3,
    warmup_steps=2,
    evaluate_every=4,
    sample_every=0,
    save_every=2,
    precision="float32",
)


@pytest.fixture
def start(tmp_path):
    """A function that begins or reopens a run: (name, config, dtype) -> arguments of `train`."""

    def begin(name, config=CONFIG, dtype=torch.float32):
        return begin_toy_run(tmp_path, TEXT, name, config, dtype)

    return begin


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("micro", [1, 2, 3, 8])
def test_accumulation_changes_nothing_but_memory(start, micro):
    """1 x 8, 3 + 3 + 2 and 8 x 1 are the same step; a mean of means would differ for 3 + 3 + 2."""
    results = []
    for name, size in (("whole", 8), ("parts", micro)):
        arguments = start(name, replace(CONFIG, micro_batch_size=size), torch.float64)
        losses = [p.loss for p in train(*arguments)]
        results.append((weights(arguments[0]), losses[1:]))
    (a, losses_a), (b, losses_b) = results
    assert (a - b).abs().max() <= 1e-10
    assert max(abs(x - y) for x, y in zip(losses_a, losses_b)) <= 1e-10


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("micro", [8, 2])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_is_the_undisturbed_run_bit_for_bit(start, dropout, micro, optimizer):
    config = replace(
        CONFIG, dropout=dropout, micro_batch_size=micro, optimizer=optimizer, keep="all"
    )
    straight = start("straight", config)
    expected = list(train(*straight))
    for split in (1, 4, 5):
        first = start(f"split-{split}", config)
        seen = []
        for progress in train(*first, should_stop=lambda: len(seen) > split):  # noqa: B023
            seen.append(progress)
        assert first[3].state().state == "stopped"
        second = start(f"split-{split}", config)
        later = list(train(*second))
        logged = second[3].progress()
        assert [p.loss for p in logged] == [p.loss for p in expected]
        assert later[0].step == split + 1
        last, wanted = (
            second[3].checkpoints.load(config.steps),
            straight[3].checkpoints.load(config.steps),
        )
        for part in ("model", "optimizer"):
            ours, theirs = getattr(last, part), getattr(wanted, part)
            assert set(ours) == set(theirs)
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_one_batch_overfits(start):
    config = replace(
        CONFIG,
        steps=200,
        batch_size=4,
        micro_batch_size=4,
        save_every=0,
        evaluate_every=0,
        weight_decay=0.0,
        validation_share=0.0,
        warmup_steps=10,
        learning_rate=2e-2,
    )
    model, data, config, run = start("overfit", config)
    short = replace(data, train=data.train[:17])
    assert list(train(model, short, config, run))[-1].loss < 0.01


def test_the_first_loss_is_the_logarithm_of_the_vocabulary(start):
    model, data, config, run = start("first", replace(CONFIG, steps=1))
    first = list(train(model, data, config, run))[1].loss
    assert abs(first - math.log(model.config.vocab_size)) < 0.1


def test_the_learning_rate_follows_a_table():
    config = TrainConfig(steps=10, warmup_steps=3, learning_rate=4.0, final_learning_rate=0.0)
    rates = [learning_rate(config, step) for step in range(11)]
    assert rates[:4] == [1.0, 2.0, 3.0, 4.0]
    middle = 4 * 0.5 * (1 + math.cos(math.pi * 3 / 7))
    assert rates[6] == pytest.approx(middle)
    assert rates[10] == pytest.approx(0.0)
    linear = replace(config, schedule="linear")
    assert learning_rate(linear, 3) == 4.0
    assert learning_rate(linear, 10) == 0.0
    assert learning_rate(replace(config, schedule="constant"), 10) == 4.0


def test_a_loss_that_is_not_finite_is_never_stepped(start):
    """The run goes back to its last checkpoint at half the rate once, then fails with the cause."""
    model, data, config, run = start("nan", replace(CONFIG, save_every=2))
    seen = []

    def sabotage():
        for progress in train(model, data, config, run):
            seen.append(progress)
            if progress.step == 3:
                model.wpe.weight.data[0, 0] = float("nan")

    with pytest.raises(TrainingFailed, match="not finite again"):
        sabotage()
    messages = [p.message for p in seen if p.message]
    assert len(messages) == 1
    assert "Went back to step 2 and halved" in messages[0]
    assert torch.isfinite(run.checkpoints.newest().model["wpe.weight"]).all()
    assert run.checkpoints.newest().step == 2


def test_out_of_memory_halves_the_micro_batch_once_and_says_so(start, monkeypatch):
    config = replace(CONFIG, save_every=0, evaluate_every=0)
    reference = start("reference", config, torch.float64)
    expected = [p.loss for p in train(*reference)]
    arguments = start("memory", config, torch.float64)
    plain = GPT2.hidden

    def hungry(self, tokens, cache=None):
        if self.training and len(tokens) > 4:
            raise torch.OutOfMemoryError("no memory for this batch")
        return plain(self, tokens, cache)

    monkeypatch.setattr(GPT2, "hidden", hungry)
    seen = list(train(*arguments))
    assert [p.message for p in seen if p.message] == [
        "Out of memory at a micro-batch of 8. Continuing with 4 and twice the accumulation; "
        "results are equivalent."
    ]
    losses = [p.loss for p in seen if p.loss is not None]
    assert losses == pytest.approx(expected[1:], abs=1e-10)


def test_out_of_memory_twice_is_a_failure_with_advice(start, monkeypatch):
    def hungry(self, tokens, cache=None):
        raise torch.OutOfMemoryError("no memory at all")

    arguments = start("hopeless", replace(CONFIG, validation_share=0.0))
    monkeypatch.setattr(GPT2, "hidden", hungry)
    with pytest.raises(TrainingFailed, match=r"micro-batch of 4.*smaller one"):
        list(train(*arguments))


def test_a_smaller_micro_batch_on_resume_is_taken(start, monkeypatch):
    """The checkpoint's own size once came first: the way out of a failure was ignored."""
    model, corpus, config, run = start("smaller", replace(CONFIG, steps=2, save_every=1))
    list(train(model, corpus, config, run))
    sizes, plain = [], GPT2.hidden

    def watched(self, tokens, cache=None):
        sizes.append(len(tokens))
        return plain(self, tokens, cache)

    monkeypatch.setattr(GPT2, "hidden", watched)
    smaller = replace(config, steps=3, micro_batch_size=2, evaluate_every=0, sample_every=0)
    trainer = Trainer(model, corpus, smaller, run, World())
    next(trainer.steps(lambda: False))
    assert sizes[:4] == [2] * 4


def test_another_error_of_the_step_is_not_swallowed_as_memory(start, monkeypatch):
    arguments = start("bug", replace(CONFIG, validation_share=0.0))

    def broken(self, tokens, cache=None):
        raise RuntimeError("a bug")

    monkeypatch.setattr(GPT2, "hidden", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        list(train(*arguments))


def test_patience_ends_a_run_and_the_result_is_the_best(start):
    config = replace(
        CONFIG, steps=100, evaluate_every=1, patience=2, learning_rate=1.0, save_every=0
    )
    model, data, config, run = start("patience", config)
    seen = list(train(model, data, config, run))
    losses = [p.validation_loss for p in seen]
    assert len(seen) < 100
    assert losses.index(min(losses)) == len(losses) - 3
    assert run.state().state == "done"
    best = run.checkpoints.load(losses.index(min(losses)))
    assert all(torch.equal(p, best.model[name]) for name, p in model.named_parameters())


def test_gradient_checkpointing_changes_nothing_but_memory(start):
    plain = start("plain", CONFIG, torch.float64)
    losses = [p.loss for p in train(*plain)]
    recomputed = start("recomputed", replace(CONFIG, gradient_checkpointing=True), torch.float64)
    assert [p.loss for p in train(*recomputed)][1:] == pytest.approx(losses[1:], abs=1e-12)


def test_lora_trains_only_its_updates_and_merges_into_a_plain_model(start):
    config = replace(CONFIG, lora_rank=2, lora_alpha=4.0)
    model, data, config, run = start("lora", config)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    add_lora(model, config)
    list(train(model, data, config, run))
    for name, p in model.named_parameters():
        if "lora_" not in name:
            assert torch.equal(p, before[name]), name
    assert any(isinstance(module, LoraLinear) for module in model.modules())
    tokens = torch.randint(0, model.config.vocab_size, (2, 16))
    plain = merged(model.eval())
    assert not any("lora" in name for name in plain.state_dict())
    assert (plain(tokens) - model(tokens)).abs().max() < 1e-5
    assert set(run.checkpoints.newest().model) == {
        n for n, _ in model.named_parameters() if "lora_" in n
    }


def test_adamw_is_the_textbook_step(start):
    """Against a float64 script of Loshchilov & Hutter's algorithm 2, decay on matrices only."""
    model, data, config, run = start("adamw", replace(CONFIG, gradient_clip=0.0), torch.float64)
    trainer = Trainer(model, data, config, run, World())
    old = {name: p.detach().clone() for name, p in model.named_parameters()}
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in old.items()}
    for step in range(3):
        rows = trainer.windows.batch(step)
        trainer._backward(rows)
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        trainer._drop_gradients()
        rate = learning_rate(config, step)
        for name, p in old.items():
            mean, square = moments[name]
            mean.mul_(0.9).add_(0.1 * gradients[name])
            square.mul_(0.95).add_(0.05 * gradients[name] ** 2)
            decay = config.weight_decay if p.dim() == 2 else 0.0
            p -= rate * decay * p
            corrected = (square / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8
            p -= rate * (mean / (1 - 0.9 ** (step + 1))) / corrected
        trainer._step()
        for name, p in model.named_parameters():
            assert (p - old[name]).abs().max() <= 1e-12, name
