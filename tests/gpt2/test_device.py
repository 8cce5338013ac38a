"""Which device computes: by name, and everything that depends on it without having it here."""

from __future__ import annotations

import pytest
import torch

from gpt2.__main__ import main as gpt2_main
from gpt2.device import choose_device
from gpt2.errors import UserError
from gpt2.folder import empty_model, load_model
from gpt2.generate import generate_batch
from gpt2.inference import load_for_inference
from gpt2.precision import computing_in, number_format
from gpt2.sampling import Sampling, sample


@pytest.fixture
def pretend(monkeypatch):
    """pretend(gpus, mps=False): a machine with so many CUDA GPUs."""

    def change(gpus: int, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return change


def test_auto_is_the_first_of_cuda_mps_and_cpu(pretend):
    for gpus, mps, found in [(1, True, "cuda"), (0, True, "mps"), (0, False, "cpu")]:
        pretend(gpus, mps)
        assert choose_device() == torch.device(found)


def test_what_is_here_is_taken_by_name(pretend):
    pretend(2, mps=True)
    for name in ("cpu", "mps", "cuda", "cuda:0", "cuda:1"):
        assert choose_device(name) == torch.device(name)


@pytest.mark.parametrize(
    ("gpus", "name", "words"),
    [
        (0, "cuda", "no cuda here.*Choose cpu"),
        (0, "cuda:1", "no cuda:1 here"),
        (1, "cuda:1", "no cuda:1 here: cuda:0 alone"),
        (2, "cuda:2", "cuda:0 to cuda:1"),
        (0, "mps", "Macs"),
        (1, "gpu", "device must be auto, cpu, cuda, cuda:N or mps, not 'gpu'"),
        (1, "cuda:-1", "device must be"),
        (1, "CPU", "device must be"),
        (1, "meta", "device must be"),
        (1, "", "device must be"),
        (1, None, "device must be"),
    ],
)
def test_what_is_not_here_or_no_device_is_refused(pretend, gpus, name, words):
    pretend(gpus)
    with pytest.raises(UserError, match=words):
        choose_device(name)


def test_a_folder_is_loaded_onto_the_device_that_was_asked_for(base):
    assert load_model(base, "cpu")[0].device == torch.device("cpu")
    with pytest.raises(UserError, match="no cuda here"):
        load_model(base, "cuda")
    with pytest.raises(UserError, match="no mps here"):
        load_for_inference(str(base), "mps")


def test_the_commands_say_what_is_not_here(base, tmp_path, call_here):
    (tmp_path / "text.txt").write_text("A text.")
    for command in (["generate", "A"], ["score", str(tmp_path / "text.txt")]):
        wanted = ["--model", str(base), "--device"]
        assert call_here(gpt2_main, *command, *wanted, "cpu")[0] == 0
        status, out, error = call_here(gpt2_main, *command, *wanted, "cuda:1")
        assert (status, out) == (2, "")
        assert "There is no cuda:1 here" in error
        assert len(error.splitlines()) == 1


def test_a_device_without_float64_leaves_the_draw_to_the_cpu(monkeypatch):
    """Apple's GPUs have none, and the shares need it: nothing of it may stay there."""
    monkeypatch.setattr("gpt2.sampling.has_float64", lambda device: False)
    logits, context = torch.randn(97), torch.tensor([3, 5])
    seen = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: seen.append(self) or self.clone())
    token = sample(logits, context, Sampling(), torch.Generator().manual_seed(1))
    assert 0 <= token < 97
    assert seen[0] is logits
    assert seen[1] is context


def test_the_number_formats_of_devices_that_are_not_here(monkeypatch):
    cuda, mps, cpu = map(torch.device, ("cuda", "mps", "cpu"))
    for fast, expected in ((True, "bfloat16"), (False, "float16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **asked: fast)  # noqa: B023
        assert number_format("auto", cuda) == expected
    assert number_format("auto", mps) == "float32"
    assert number_format("tf32", cuda) == "tf32"
    for other in (cpu, mps):
        with pytest.raises(UserError, match="tf32"):
            number_format("tf32", other)
    for device in (cpu, mps):
        assert number_format("float16", device) == "float16"
    with pytest.warns(UserWarning, match="CUDA is not available"):
        assert computing_in("float16", cuda).fast_dtype == torch.float16


def test_the_model_makes_every_tensor_on_its_own_device(make_model):
    """On "meta" nothing is computed, but a tensor that was made on the CPU is refused as it would
    be on a GPU: prompt, cache, positions and mask."""
    model = empty_model(make_model().config)
    cache = model.new_cache(1, 20)
    for tokens in (7, 1, 5):  # prefill, decode, a chunk after a cache
        logits = model(torch.zeros(1, tokens, dtype=torch.long, device="meta"), cache)
        assert (logits.device.type, logits.shape) == ("meta", (1, tokens, 97))
    assert cache.repeat(3).keys[0].device.type == "meta"


def test_generation_moves_its_prompt_and_its_tokens_to_the_device(make_model, monkeypatch):
    model = empty_model(make_model().config)
    monkeypatch.setattr("gpt2.generate.sample", lambda *given: 5)
    beyond = model.config.n_positions + 6  # the window is refilled on the way
    steps = list(generate_batch(model, [1, 2, 3], Sampling(max_new_tokens=beyond, samples=2)))
    assert steps == [[5, 5]] * beyond
