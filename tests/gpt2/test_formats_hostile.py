"""Files of strangers that are damaged or malicious: refused, nothing run, memory bounded."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import pytest
import torch

from gpt2.errors import UserError
from gpt2.formats.foreign_model import Hints
from gpt2.formats.incoming import convert_foreign
from gpt2.formats.pickles import read_character_table
from tests.support.foreign_models import (
    HEADS,
    FromScratchModel,
    KarpathyModel,
    randomized,
    write_keras_preset,
    write_llm_c,
)

ROOT = Path(__file__).resolve().parents[2]


class Trap:
    """Makes a folder where it is unpickled by `pickle` itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def refusal(source: Path) -> str:
    """The one line with which it is refused; nothing is left behind."""
    with pytest.raises(UserError) as refused:
        convert_foreign(source, source.parent / "out", hints=Hints(heads=HEADS))
    assert not [path for path in source.parent.iterdir() if "out" in path.name]
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return dict(randomized(FromScratchModel(True)).state_dict())


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "older form"])
def test_code_in_a_checkpoint_is_never_run(legacy, tmp_path, state):
    bomb = {"model": state, "config": Trap(tmp_path / "trap")}
    torch.save(bomb, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    assert "can run code" in refusal(tmp_path / "a.pt")
    assert not (tmp_path / "trap").exists()
    torch.load(tmp_path / "a.pt", weights_only=False)  # the trap itself works
    assert (tmp_path / "trap").exists()


def test_code_in_a_table_of_characters_is_never_run(tmp_path):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        table = {"itos": ["a"], "stoi": Trap(tmp_path / "trap")}
        (tmp_path / "meta.pkl").write_bytes(pickle.dumps(table, protocol))
        with pytest.raises(UserError, match="which is not run"):
            read_character_table(tmp_path / "meta.pkl")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04.",
        pickle.dumps({"itos": {0: "a", 2: "b"}}),
        pickle.dumps({"itos": {0: "a", "1": "b"}}),
        pickle.dumps([1, 2]),
        pickle.dumps({"itos": {0: "ab"}}),
        b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo of two billion places
        b"\x80\x02X\xff\xff\xff\x7fabc.",  # a text of two gigabytes
    ],
)
def test_a_broken_table_of_characters_is_refused(data, tmp_path, state):
    torch.save(state, tmp_path / "gpt.pt")
    (tmp_path / "meta.pkl").write_bytes(data)
    refusal(tmp_path / "gpt.pt")


def test_truncated_checkpoints_are_refused_wherever_they_end(tmp_path, state):
    torch.save(state, tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    for length in (0, 1, 4, 100, 1000, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.pt").write_bytes(data[:length])
        refusal(tmp_path / "cut.pt")


def test_a_tensor_that_claims_more_values_than_the_file_is_refused(tmp_path, state):
    """One number, repeated by a stride of 0, would be 500 gigabytes once it is written."""
    state["tok_emb.weight"] = torch.ones(1).expand(2_000_000, 24)
    torch.save(state, tmp_path / "a.pt")
    assert "more values than the file" in refusal(tmp_path / "a.pt")


def test_layers_that_share_one_matrix_cannot_multiply_it(tmp_path, state):
    shared = torch.ones(24, 24)
    for layer in range(900):
        state[f"trf_blocks.{layer}.att.W_query.weight"] = shared
        state[f"trf_blocks.{layer}.att.W_key.weight"] = shared
    torch.save(state, tmp_path / "a.pt")
    assert "more values than the file" in refusal(tmp_path / "a.pt")


def test_a_packed_archive_is_refused_before_it_is_unpacked(tmp_path, state):
    torch.save(state, tmp_path / "a.pt")
    packing = zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "a.pt") as whole, packing as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
        packed.writestr("archive/zeros.pkl", bytes(10_000_000))
    assert "is packed" in refusal(tmp_path / "b.pt")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused_by_name(value, tmp_path, state):
    state["trf_blocks.1.att.W_key.weight"][0, 0] = value
    torch.save(state, tmp_path / "a.pt")
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"itos": [chr(97 + i) for i in range(26)]}))
    assert "h.1.attn.c_attn.weight holds values that are not finite" in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("kind", [torch.int64, torch.complex64, torch.bool])
def test_numbers_that_weights_do_not_have_are_refused(kind, tmp_path, state):
    state["tok_emb.weight"] = torch.ones(65, 24).to(kind)
    torch.save(state, tmp_path / "a.pt")
    assert "not one of floating-point numbers" in refusal(tmp_path / "a.pt")


def test_what_torch_saves_that_is_no_state_dict_is_refused(tmp_path):
    for content in ([torch.ones(3)], torch.ones(3), {"a": 1}, {"model": {"a": "b"}}):
        torch.save(content, tmp_path / "a.pt")
        refusal(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (1, 1, "Versions 3"),
        (2, 2**30, "n_positions is 1073741824"),
        (4, -1, "n_layer is -1"),
        (5, 7, "cannot be split among 7 heads"),
        (6, 4095, "is truncated"),
        (7, 2**30, "cannot be padded"),
        (3, 64, None),
    ],
)
def test_a_header_of_llm_c_is_checked_against_the_file(index, value, message, tmp_path):
    write_llm_c(tmp_path / "a.bin", randomized(KarpathyModel(nano=False)), 3, padded=128)
    data = bytearray((tmp_path / "a.bin").read_bytes())
    data[4 * index : 4 * index + 4] = struct.pack("<i", value)
    (tmp_path / "a.bin").write_bytes(data)
    refused = refusal(tmp_path / "a.bin")
    assert message is None or message in refused
    for length in (4, 500, 1024, len(data) - 2):
        (tmp_path / "a.bin").write_bytes(data[:length])
        refusal(tmp_path / "a.bin")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"external": [("/etc/hostname", 0, 4)]}, "is not stored plainly in the file"),
        ({"compression": "gzip", "chunks": (65, 24)}, "is not stored plainly in the file"),
        ({"dtype": "i4"}, "is not stored plainly in the file"),
        ({"name": "layers/dense/vars/0"}, "belongs to no GPT-2 of KerasHub"),
    ],
    ids=["of another file", "packed", "whole numbers", "unknown"],
)
def test_a_preset_of_keras_hub_is_read_from_its_own_bytes_only(how, message, tmp_path):
    write_keras_preset(tmp_path / "a", randomized(KarpathyModel(nano=False)))
    name = how.pop("name", "layers/reversible_embedding/vars/0")
    shape = (1,) if "external" in how else (65, 24)
    with h5py.File(tmp_path / "a" / "model.weights.h5", "a") as file:
        if name in file:
            del file[name]
        file.create_dataset(name, shape=shape, **{"dtype": "f4", **how})
    assert message in refusal(tmp_path / "a")
    data = (tmp_path / "a" / "model.weights.h5").read_bytes()
    for length in (0, 100, len(data) // 2):
        (tmp_path / "a" / "model.weights.h5").write_bytes(data[:length])
        refusal(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text('{"class_name": "LlamaBackbone"}')
    assert "KerasHub's LlamaBackbone" in refusal(tmp_path / "a")


def gguf_header(*pairs: tuple[str, int, bytes], tensors: int = 0) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    keys = b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(pairs)) + keys


NUMBERS, ARRAY = 0, 9  # of GGUF: bytes, and lists of any type
GGUF_ATTACKS = {
    "empty": b"GGUF",
    "no keys where many are promised": b"GGUF" + struct.pack("<IQQ", 3, 2**40, 2**40),
    "a text longer than the file": gguf_header(("a", 8, struct.pack("<Q", 2**62))),
    "an endless list": gguf_header(("a", ARRAY, struct.pack("<IQ", NUMBERS, 2**60) + b"1")),
    "lists in lists": gguf_header(
        ("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 5000 + struct.pack("<IQ", NUMBERS, 0))
    ),
    "another architecture": gguf_header(
        ("general.architecture", 8, struct.pack("<Q", 5) + b"llama"),
        ("general.alignment", 4, struct.pack("<I", 32)),
    ),
    "an alignment of 0": gguf_header(("general.alignment", 4, struct.pack("<I", 0))),
    "a future version": b"GGUF" + struct.pack("<IQQ", 77, 0, 0),
    "one part of gpt2": gguf_header(("general.architecture", 8, struct.pack("<Q", 4) + b"gpt2")),
}


@pytest.mark.parametrize("name", GGUF_ATTACKS)
def test_headers_of_gguf_that_lie_are_refused(name, tmp_path):
    """The library's own reader goes on over a list without end: behind the file it reads nothing,
    and remembers each."""
    (tmp_path / "a.gguf").write_bytes(GGUF_ATTACKS[name])
    message = refusal(tmp_path / "a.gguf")
    assert name != "another architecture" or "'llama'" in message


HUGE = """
import resource, sys
from pathlib import Path
from gpt2.errors import UserError
from gpt2.formats.incoming import convert_foreign
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        convert_foreign(path, path + "-out")
        print("converted", path)
    except UserError as error:
        print(len(str(error).splitlines()), end=" ")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_header_of_a_gigabyte_is_refused_without_reading_it_all(tmp_path):
    """Sparse files of 1 GB whose headers say that all of it is theirs."""
    size = 1 << 30
    list_of_bytes = struct.pack("<IQ", NUMBERS, size - 200)
    begins = {
        "a.gguf": gguf_header(("a", ARRAY, list_of_bytes)),
        "b.safetensors": struct.pack("<Q", size - 8) + b"{",
        "c.bin": b"\x06\x5b\x35\x01" + struct.pack("<7i", 3, 10**6, 10**6, 999, 1, 65536, 10**6),
    }
    for name, begin in begins.items():
        with open(tmp_path / name, "wb") as file:
            file.write(begin)
            file.truncate(size)
    names = [str(tmp_path / name) for name in begins]
    done = subprocess.run(
        [sys.executable, "-c", HUGE, *names], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    *lines, grown = done.stdout.split()
    assert lines == ["1"] * len(begins)
    assert int(grown) < 700, "MB"
