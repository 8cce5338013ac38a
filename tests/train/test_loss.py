"""The head and the loss as one operation, compared with two separate ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gpt2.model import GPT2, ModelConfig
from train.loss import NextTokenLoss

TOY = ModelConfig(vocab_size=37, n_positions=40, n_embd=12, n_layer=2, n_head=3)


def plain_loss(model: GPT2, windows: torch.Tensor) -> torch.Tensor:
    logits = model(windows[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="sum")


def gradients(model: GPT2, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))


def toy(**changes) -> tuple[GPT2, torch.Tensor]:
    torch.manual_seed(1)
    model = GPT2(ModelConfig(**{**TOY.__dict__, **changes})).double()
    return model, torch.randint(0, 37, (3, 21))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [1, 59, 60, 61])  # below, at and above the 60 positions
def test_equals_cross_entropy_in_float64(tied, rows, monkeypatch):
    monkeypatch.setattr("train.loss._ROWS_A_PRODUCT", rows)
    monkeypatch.setattr("train.loss._LOGITS_A_SOFTMAX", 37 * max(1, rows // 3))
    model, windows = toy(tie_word_embeddings=tied)
    wanted, got = plain_loss(model, windows), NextTokenLoss(model)(windows)
    assert abs(wanted.item() - got.item()) < 1e-10
    for expected, found in zip(gradients(model, wanted), gradients(model, got)):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_gradients_follow_a_factor_and_accumulate():
    model, windows = toy()
    plain = gradients(model, plain_loss(model, windows) * 0.125)
    loss = NextTokenLoss(model)
    for micro in windows.split(1):
        (loss(micro) * 0.125).backward()
    for expected, p in zip(plain, model.parameters()):
        torch.testing.assert_close(p.grad, expected, rtol=0, atol=1e-12)


def test_frozen_embeddings_get_no_gradient():
    model, windows = toy()
    model.requires_grad_(False)
    model.h[0].mlp.c_fc.weight.requires_grad_(True)
    wanted = gradients(model, plain_loss(model, windows))
    NextTokenLoss(model)(windows).backward()
    assert model.wte.weight.grad is None
    torch.testing.assert_close(model.h[0].mlp.c_fc.weight.grad, wanted[0], rtol=0, atol=1e-12)


def test_autocast_is_as_near_to_float64_as_the_two_apart():
    """bfloat16 products round; the one operation may not round more than the two do."""
    model, windows = toy(n_embd=24)
    exact = gradients(model, plain_loss(model, windows))
    model = model.float()
    errors = []
    for loss_of in (lambda: plain_loss(model, windows), lambda: NextTokenLoss(model)(windows)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of()
        assert loss.dtype == torch.float32
        found = gradients(model, loss)
        errors.append(sum((f.double() - e).norm().item() for f, e in zip(found, exact)))
    assert errors[1] < 1.5 * errors[0]


def test_without_gradients_it_is_only_a_number():
    model, windows = toy()
    with torch.no_grad():
        got = NextTokenLoss(model)(windows)
    assert not got.requires_grad
    assert abs(got.item() - plain_loss(model, windows).item()) < 1e-10
