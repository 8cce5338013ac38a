"""float16: the scale of the loss, steps that overflow, and weights that are lost, on a CPU.

With the scaler enabled a loss that was not finite was once never looked at again: NaN weights
trained to the end, and the run said that it was done.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gpt2.folder import empty_model
from gpt2.model import ModelConfig
from tests.support.toy_runs import begin_toy_run
from train.config import TrainConfig
from train.distributed import World
from train.lora import add_lora
from train.loss import NextTokenLoss
from train.trainer import Trainer, TrainingFailed, train

TEXT = "jackdaws love my big sphinx of quartz. " * 60
CONFIG = TrainConfig(
    steps=6,
    batch_size=4,
    block_size=8,
    learning_rate=1e-2,
    final_learning_rate=1e-3,
    warmup_steps=2,
    evaluate_every=3,
    sample_every=3,
    sample_tokens=5,
    save_every=2,
    precision="float16",
)


@pytest.fixture
def begin(tmp_path):
    """A function that begins or reopens a run: (name, config) -> arguments of `train`."""
    return lambda name, config=CONFIG: begin_toy_run(tmp_path, TEXT, name, config)


@pytest.fixture
def first_scale(monkeypatch):
    """first_scale(scale): what the loss of new runs is multiplied by at first."""
    plain = torch.amp.GradScaler

    def change(scale: float) -> None:
        monkeypatch.setattr(
            torch.amp, "GradScaler", lambda *a, **n: plain(*a, init_scale=scale, **n)
        )

    return change


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_in_float16_is_nearly_the_run_in_float32(begin, optimizer):
    losses = {}
    for precision in ("float32", "float16"):
        config = replace(CONFIG, precision=precision, optimizer=optimizer)
        seen = list(train(*begin(precision, config)))
        losses[precision] = [p.loss for p in seen[1:]] + [seen[-1].validation_loss]
        assert all(p.message is None for p in seen)
        assert seen[3].sample
    assert losses["float16"] != losses["float32"]
    assert losses["float16"] == pytest.approx(losses["float32"], rel=5e-3)


def test_a_step_that_overflows_is_computed_anew_at_a_scale_that_does_not(begin, first_scale):
    """No batch is lost and no step is missing: the run is the one that began at that scale."""
    first_scale(2.0**40)
    arguments = begin("too-high")
    seen = list(train(*arguments))
    assert [p.step for p in seen] == list(range(7))
    assert "float16 overflowed" in seen[1].message
    scale = float(seen[1].message.rpartition(" ")[2])
    first_scale(scale)
    fitting = begin("fitting")
    expected = list(train(*fitting))
    assert expected[1].message is None
    assert [p.loss for p in seen] == [p.loss for p in expected]
    assert torch.equal(weights(arguments[0]), weights(fitting[0]))


def test_a_resumed_run_is_the_undisturbed_run_the_scale_too(begin, first_scale):
    first_scale(2.0**40)
    straight = begin("straight")
    expected = list(train(*straight))
    first_scale(2.0**16)  # as a process that knows nothing of the first would begin
    for split in (1, 2, 4):
        first_scale(2.0**40)
        seen = []
        for progress in train(*begin(f"s{split}"), should_stop=lambda: len(seen) > split):  # noqa: B023
            seen.append(progress)
        first_scale(2.0**16)
        second = begin(f"s{split}")
        list(train(*second))
        assert second[3].progress() == [
            replace(p, tokens_per_second=q.tokens_per_second)
            for p, q in zip(expected, second[3].progress(), strict=True)
        ]
        assert torch.equal(weights(second[0]), weights(straight[0]))
        ours, theirs = (r.checkpoints.newest().trainer for r in (second[3], straight[3]))
        assert ours["scaler"] == theirs["scaler"]


def test_weights_that_are_lost_end_in_the_roll_back_and_then_in_a_failure(begin):
    model, data, config, run = begin("nan")
    seen = []

    def sabotage():
        for progress in train(model, data, config, run):
            seen.append(progress)
            if progress.step == 3:
                model.wpe.weight.data[0, 0] = float("nan")

    with pytest.raises(TrainingFailed, match="At step 4 the loss was not finite again"):
        sabotage()
    assert "Went back to step 3 and halved" in next(p.message for p in seen if p.message)
    assert torch.isfinite(run.checkpoints.newest().model["wpe.weight"]).all()


def test_gradients_that_no_scale_makes_finite_end_likewise(begin):
    model, data, config, run = begin("infinite")
    scales = []
    trainer = Trainer(model, data, config, run, World())
    model.wpe.weight.register_hook(
        lambda gradient: scales.append(trainer.scaler.get_scale()) or gradient * float("inf")
    )
    with pytest.raises(TrainingFailed, match="at any scale of the loss again"):
        list(trainer.steps(lambda: False))
    assert min(scales) < 1e-3
    assert len(scales) < 100
    assert run.checkpoints.newest().step == 0


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_weights_that_are_not_finite_are_not_saved_but_rolled_back(begin, precision):
    """A position that no block reaches: the loss and the gradients never show it."""
    model, data, config, run = begin("unseen", replace(CONFIG, precision=precision))
    seen = []
    for progress in train(model, data, config, run):
        seen.append(progress)
        if len(seen) == 4:  # after step 3
            model.wpe.weight.data[15, 0] = float("inf")
    messages = [p.message for p in seen if p.message]
    assert messages == [
        "At step 4 the weights were not finite. Went back to step 3 and halved the learning rate."
    ]
    assert seen[-1].step == config.steps
    assert torch.isfinite(weights(model)).all()


def test_a_run_that_goes_on_in_float16_where_it_was_in_another_format(begin):
    """ "auto" is float16 on some GPUs: a checkpoint from elsewhere has no scale."""
    arguments = begin("moved", replace(CONFIG, steps=2, precision="float32"))
    list(train(*arguments))
    model, data, _, run = begin("moved")
    later = list(train(model, data, CONFIG, run))
    assert later[-1].step == CONFIG.steps
    model, data, _, run = begin("moved")
    back = list(train(model, data, replace(CONFIG, steps=8, precision="float32"), run))
    assert back[-1].step == 8


@pytest.mark.parametrize("lora", [0, 2])
def test_the_loss_and_its_gradients_are_made_on_the_device_of_the_model(lora, monkeypatch):
    """On "meta" nothing is computed, but a tensor of the CPU is refused there as on a GPU."""
    shape = ModelConfig(vocab_size=28, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    model = empty_model(replace(shape, dropout=0.1, tie_word_embeddings=not lora)).train()
    if lora:
        with torch.device("meta"):
            add_lora(model, replace(CONFIG, lora_rank=lora))
    monkeypatch.setattr("train.loss._as_autocast", lambda tensor: tensor)  # "meta" has none
    loss = NextTokenLoss(model)(torch.zeros(4, 9, dtype=torch.long, device="meta"))
    loss.backward()
    made = [p.grad for p in model.parameters() if p.requires_grad]
    assert made
    assert all(gradient.device.type == "meta" for gradient in made)
