"""OpenAI's checkpoint format, against TensorFlow, which writes the toys, and `transformers`."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gpt2.openai.convert
from gpt2.added_tokens import AddedToken
from gpt2.byte_pairs import BytePairSettings
from gpt2.errors import UserError
from gpt2.folder import load_model, save_model
from gpt2.hub.resolve import STORYTELLER_FOLDER
from gpt2.model import SIZES
from gpt2.openai.checkpoint import OpenAICheckpoint, write_checkpoint
from gpt2.openai.convert import convert
from gpt2.openai.names import name_map, write_release_texts
from gpt2.openai.release import CHECKSUMS
from gpt2.tokenizer import BytePairTokenizer, gpt2_tokenizer
from tests.support.openai_toy import HPARAMS, random_variables, write_release

ROOT = Path(__file__).resolve().parents[2]
DATA = "model.ckpt.data-00000-of-00001"


@pytest.fixture(scope="module")
def variables():
    return random_variables()


@pytest.fixture(scope="module")
def release(variables, tmp_path_factory):
    """A sound toy release; who breaks it takes `copy`."""
    return write_release(tmp_path_factory.mktemp("release") / "toy", variables)


@pytest.fixture
def copy(release, tmp_path):
    return Path(shutil.copytree(release, tmp_path / "copy"))


def refusal(source: Path) -> str:
    """The one line with which a conversion ends, leaving nothing behind."""
    folder = source.parent / "converted"
    with pytest.raises(UserError) as refused:
        convert(str(source), folder)
    assert [path.name for path in folder.parent.iterdir() if "converted" in path.name] == []
    message = str(refused.value)
    assert len(message.splitlines()) == 1
    return message


def transformers_model(variables: dict[str, np.ndarray], dtype: torch.dtype):
    """`transformers`' GPT-2 with the same weights; the names are written here by hand."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"vocab_size": 259, "n_positions": 16, "n_embd": 24, "n_layer": 2, "n_head": 3}
    theirs = GPT2LMHeadModel(GPT2Config(**shape)).to(dtype).eval()
    parameters = dict(theirs.named_parameters())
    for name, array in variables.items():
        path = name.removeprefix("model/").split("/")
        if path[0].startswith("h") and path[0][1:].isdigit():
            path = ["h", path[0][1:], *path[1:]]
        if path[0] in ("wte", "wpe"):
            path.append("w")
        path[-1] = {"g": "weight", "w": "weight", "b": "bias"}[path[-1]]
        parameter = parameters.pop("transformer." + ".".join(path))
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(array).reshape(parameter.shape))
    assert not parameters
    return theirs


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_a_converted_checkpoint_gives_the_logits_of_transformers(
    dtype, limit, release, variables, tmp_path
):
    convert(str(release), tmp_path / "folder")
    model, tokenizer = load_model(tmp_path / "folder", device="cpu", dtype=dtype)
    tokens = torch.tensor([tokenizer.encode("the thin theme")[:16]])
    with torch.no_grad():
        ours, theirs = model(tokens), transformers_model(variables, dtype)(tokens).logits
    assert ours.dtype == dtype
    assert (ours - theirs).abs().max() < limit
    assert theirs.abs().max() > 1


def test_there_and_back_is_the_same_byte_for_byte(release, tmp_path):
    """What TensorFlow's Saver wrote from OpenAI's names is what comes back out of a folder."""
    convert(str(release), tmp_path / "folder")
    write_checkpoint(tmp_path / "folder", tmp_path / "back")
    same = [DATA, "model.ckpt.index", "hparams.json", "encoder.json", "vocab.bpe"]
    for name in same:
        assert (tmp_path / "back" / name).read_bytes() == (release / name).read_bytes(), name
    assert {path.name for path in (tmp_path / "back").iterdir()} == {*same, "checkpoint"}


def test_back_and_there_keeps_a_model_of_ours(make_model, release, tmp_path):
    """Also one without QKV biases: the checkpoint has zeros for them, the folder too."""
    tokenizer = OpenAICheckpoint(release).tokenizer
    save_model(tmp_path / "ours", make_model(vocab_size=259, qkv_bias=False), tokenizer)
    write_checkpoint(tmp_path / "ours", tmp_path / "checkpoint")
    convert(str(tmp_path / "checkpoint"), tmp_path / "again")
    names = ("model.safetensors", "vocab.json", "merges.txt", "generation_config.json")
    for name in names:
        before, after = (tmp_path / folder / name for folder in ("ours", "again"))
        assert before.read_bytes() == after.read_bytes(), name


def test_the_texts_of_a_release_are_openais_byte_for_byte(tmp_path):
    """Against the published sha256 of the 124M release's files."""
    write_release_texts(tmp_path, SIZES["124M"], gpt2_tokenizer())
    for name in ("checkpoint", "hparams.json", "encoder.json", "vocab.bpe"):
        digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        assert digest == CHECKSUMS.get(name, CHECKSUMS.get(f"124M/{name}")), name


@pytest.mark.parametrize("size", SIZES)
def test_the_map_is_one_to_one_and_fits_the_model_of_every_size(size):
    from gpt2.folder import empty_model

    rows = name_map(SIZES[size])
    expected = {name: tuple(t.shape) for name, t in empty_model(SIZES[size]).state_dict().items()}
    assert {row.tensor: row.shape for row in rows} == expected
    assert len({row.variable for row in rows}) == len(rows) == 4 + 12 * SIZES[size].n_layer


def test_the_map_of_124m_is_the_index_of_the_published_release():
    """The digest is of "name shape offset" of each entry in OpenAI's own model.ckpt.index; the data
    file holds the variables one after another in the order of their names."""
    listing, offset = "", 0
    for row in sorted(name_map(SIZES["124M"]), key=lambda row: row.variable):
        listing += f"{row.variable} {row.stored_shape} {offset}\n"
        offset += 4 * math.prod(row.stored_shape)
    assert offset == 497_759_232
    published = "e5663bba95f8575cea1995dc5ba5731f7f828d58fc728f871c1127e9ea9a48b7"
    assert hashlib.sha256(listing.encode()).hexdigest() == published


def test_only_what_the_format_can_hold_is_written(make_model, characters, release, tmp_path):
    save_model(tmp_path / "characters", make_model(), characters)
    tokenizer = OpenAICheckpoint(release).tokenizer
    untied = make_model(vocab_size=259, tie_word_embeddings=False)
    save_model(tmp_path / "untied", untied, tokenizer)
    for name in ("characters", "untied"):
        with pytest.raises(UserError, match="byte pairs and a tied head"):
            write_checkpoint(tmp_path / name, tmp_path / "out")
    save_model(tmp_path / "padded", make_model(vocab_size=300), tokenizer)
    with pytest.raises(UserError, match="number of tokens"):
        write_checkpoint(tmp_path / "padded", tmp_path / "out")


# Number formats


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_another_number_format_is_the_nearest_of_every_value(dtype, release, variables, tmp_path):
    convert(str(release), tmp_path / "half", dtype)
    wanted = getattr(torch, dtype)
    model, _ = load_model(tmp_path / "half", device="cpu", dtype=wanted)
    for name, row in OpenAICheckpoint(release).rows.items():
        expected = torch.from_numpy(variables[row.variable]).reshape(row.shape).to(wanted)
        assert torch.equal(model.state_dict()[name], expected), name
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert config["torch_dtype"] == dtype


def test_values_too_large_for_float16_are_refused_by_name(variables, tmp_path):
    large = {**variables, "model/h1/mlp/c_fc/b": variables["model/h1/mlp/c_fc/b"] * 1e6}
    source = write_release(tmp_path / "large", large)
    convert(str(source), tmp_path / "float32")
    with pytest.raises(UserError, match="model/h1/mlp/c_fc/b holds values that float16 cannot"):
        convert(str(source), tmp_path / "float16", "float16")
    assert not (tmp_path / "float16").exists()


def test_an_unknown_number_format_is_refused(release, tmp_path):
    with pytest.raises(UserError, match="float32, bfloat16, float16, not 'int4'"):
        convert(str(release), tmp_path / "x", "int4")


# Refusals, each by name

SOME = ["model/wte", "model/ln_f/b", "model/h1/attn/c_proj/w", "model/h0/mlp/c_fc/b"]


@pytest.mark.parametrize("name", SOME)
def test_a_missing_variable_is_named(name, variables, tmp_path):
    rest = {key: value for key, value in variables.items() if key != name}
    assert f"the variable {name} is missing" in refusal(write_release(tmp_path / "r", rest))


@pytest.mark.parametrize(
    "name",
    ["model/h2/ln_1/g", "model/h0/attn/c_proj/w/Adam", "global_step", "wte", "model/h00/ln_1/g"],
)
def test_an_unknown_variable_is_named(name, variables, tmp_path):
    more = {**variables, name: np.zeros(24, np.float32)}
    assert f"the variable {name} is unknown" in refusal(write_release(tmp_path / "r", more))


@pytest.mark.parametrize("name", SOME)
def test_a_misshapen_variable_is_named(name, variables, tmp_path):
    """Among them the matrix without its leading 1, as another program might write it."""
    sound = variables[name]
    wrong = sound[0] if name.endswith("/w") else sound[..., :-1]
    source = write_release(tmp_path / "r", {**variables, name: wrong})
    message = refusal(source)
    assert f"{name} has the shape {list(wrong.shape)}, not {list(sound.shape)}" in message


@pytest.mark.parametrize("name", ["model/h0/mlp/c_fc/w", "model/h0/mlp/c_proj/w"])
def test_a_transposed_matrix_that_shows_it_is_named(name, variables, tmp_path):
    turned = variables[name].transpose(0, 2, 1)
    source = write_release(tmp_path / "r", {**variables, name: turned})
    assert f"{name} has the shape" in refusal(source)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", SOME)
def test_a_value_that_is_not_finite_is_named(name, value, variables, tmp_path):
    broken = variables[name].copy()
    broken.flat[-1] = value
    source = write_release(tmp_path / "r", {**variables, name: broken})
    assert f"the variable {name} holds values that are not finite" in refusal(source)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_another_number_format_in_the_checkpoint_is_named(dtype, variables, tmp_path):
    name = "model/h0/ln_2/g"
    source = write_release(tmp_path / "r", {**variables, name: variables[name].astype(dtype)})
    assert f"the variable {name} is {np.dtype(dtype).name}, not float32" in refusal(source)


def test_a_square_matrix_transposed_in_the_data_file_is_named(copy, variables):
    """Its shape does not show it; the checksum that the index holds does."""
    name = "model/h0/attn/c_proj/w"
    raw, matrix = (copy / DATA).read_bytes(), variables[name]
    assert raw.count(matrix.tobytes()) == 1
    (copy / DATA).write_bytes(
        raw.replace(matrix.tobytes(), matrix.transpose(0, 2, 1).copy().tobytes())
    )
    assert f"the variable {name} cannot be read" in refusal(copy)


def test_a_square_matrix_transposed_by_our_own_map_is_named(release, tmp_path, monkeypatch):
    """The mistake a converter makes most easily: the self-check must not share it."""
    right = gpt2.openai.convert.to_tensor

    def turned(row, values, dtype):
        tensor = right(row, values, dtype)
        return tensor.T.contiguous() if row.tensor == "h.1.attn.c_proj.weight" else tensor

    monkeypatch.setattr(gpt2.openai.convert, "to_tensor", turned)
    with pytest.raises(UserError, match=r"self-check failed: h\.1\.attn\.c_proj\.weight"):
        convert(str(release), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("field", ["variable", "tensor"])
def test_a_map_with_a_doubled_name_is_refused(field, release, tmp_path, monkeypatch):
    """Two rows for one variable leave another unused; two for one tensor leave one unwritten."""
    from dataclasses import replace

    import gpt2.openai.checkpoint

    def doubled(config):
        rows = name_map(config)
        twin = next(row for row in rows if row.variable == "model/h0/ln_1/g")
        return [
            replace(row, **{field: getattr(twin, field)})
            if row.variable == "model/h1/ln_1/g"
            else row
            for row in rows
        ]

    monkeypatch.setattr(gpt2.openai.checkpoint, "name_map", doubled)
    with pytest.raises(UserError, match=r"h0/ln_1/g|h1/ln_1/g|h\.0\.ln_1"):
        convert(str(release), tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 1, 1000, -1])
def test_a_truncated_data_file_is_named_with_its_size(keep, copy):
    raw = (copy / DATA).read_bytes()
    (copy / DATA).write_bytes(raw[:keep])
    message = refusal(copy)
    assert f"{DATA} is truncated" in message
    assert f"{len(raw):,}" in message


def test_a_data_file_with_more_than_the_index_says_is_refused(copy):
    with open(copy / DATA, "ab") as file:
        file.write(b"\0\0\0\0")
    assert f"{DATA} is too long" in refusal(copy)


def test_a_data_file_of_another_checkpoint_is_refused(copy, tmp_path):
    other = write_release(tmp_path / "other", random_variables(seed=1))
    shutil.copy(other / DATA, copy / DATA)
    assert "damaged or belongs to another index" in refusal(copy)


@pytest.mark.parametrize("raw", [b"", b"noise" * 100, b"{}"])
def test_an_index_of_another_kind_is_refused(raw, copy):
    (copy / "model.ckpt.index").write_bytes(raw)
    assert "model.ckpt.index is not a readable checkpoint index" in refusal(copy)


@pytest.mark.parametrize(
    "name", ["hparams.json", "encoder.json", "vocab.bpe", "model.ckpt.index", DATA]
)
def test_a_missing_file_is_named(name, copy):
    (copy / name).unlink()
    assert f"{name} is missing" in refusal(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layer": 3}, "model/h2/attn/c_attn/b is missing"),
        ({"n_layer": 1}, "model/h1/attn/c_attn/b is unknown"),
        ({"n_embd": 48}, "has the shape"),
        ({"n_ctx": 17}, "model/wpe has the shape"),
        ({"n_vocab": 260}, "encoder.json has 259 tokens"),
        ({"n_head": 5}, "cannot be split among 5 heads"),
        ({"n_head": 0}, "n_head is 0"),
        ({"n_layer": 10**9}, "n_layer is 1000000000"),
        ({"n_embd": 24.0}, "n_embd is 24.0"),
        ({"n_embd": "24"}, "n_embd is '24'"),
        ({"n_embd": None}, "n_embd is None"),
        ({"n_layer": True}, "n_layer is True"),
        ({"dropout": 0.1}, "must have exactly"),
    ],
)
def test_wrong_hparams_are_named(change, message, copy):
    (copy / "hparams.json").write_text(json.dumps({**HPARAMS, **change}))
    assert message in refusal(copy)


def test_heads_that_no_shape_shows_are_held_against_the_released_sizes(copy):
    """768 wide with 8 heads would load, run and write nonsense."""
    wrong = {"n_vocab": 50257, "n_ctx": 1024, "n_embd": 768, "n_head": 8, "n_layer": 12}
    (copy / "hparams.json").write_text(json.dumps(wrong))
    message = refusal(copy)
    assert "n_head is 8" in message
    assert "124M" in message


@pytest.mark.parametrize("raw", ["", "{", "[]", "7", '{"n_vocab": 259}', "[" * 100_000])
def test_hparams_that_are_no_such_object_are_refused(raw, copy):
    (copy / "hparams.json").write_text(raw)
    message = refusal(copy)
    assert "hparams.json" in message


@pytest.mark.parametrize("name", ["encoder.json", "vocab.bpe"])
@pytest.mark.parametrize("raw", ["", "{", "a b c\n", '{"a": "b"}', "x y\n"])
def test_a_broken_tokenizer_is_named(name, raw, copy):
    (copy / name).write_text(raw)
    assert "encoder.json" in refusal(copy)


# What fine-tuning programs write


def test_a_checkpoint_under_the_name_that_the_file_checkpoint_gives_is_read(copy, tmp_path):
    for path in list(copy.glob("model.ckpt*")):
        path.rename(copy / path.name.replace("model.ckpt", "model-1000"))
    (copy / "checkpoint").write_text('model_checkpoint_path: "model-1000"\n')
    assert convert(str(copy), tmp_path / "out").parameters == 21_096


def test_the_file_checkpoint_cannot_lead_elsewhere(copy, release):
    for path in list(copy.glob("model.ckpt*")):
        path.unlink()
    (copy / "checkpoint").write_text(f'model_checkpoint_path: "{release}/model.ckpt"\n')
    assert "model.ckpt.index is missing" in refusal(copy)


# Where it is written


def test_a_folder_that_holds_something_is_refused_before_anything_is_read(release, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already and is not overwritten"):
        convert(str(release), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_disk_too_small_is_known_before_anything_is_written(release, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=80_000))
    with pytest.raises(UserError, match="are needed"):
        convert(str(release), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


CONVERT_ON_A_FULL_DISK = """
import resource, sys
import tensorflow
from gpt2.__main__ import main
# Writing beyond this many bytes of a file fails from here on, as it does on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
sys.exit(main(["convert", *sys.argv[1:]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_disk_that_gets_full_is_told_and_left_as_it_was(release, tmp_path):
    command = [sys.executable, "-c", CONVERT_ON_A_FULL_DISK, str(release), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "disk" in done.stderr
    assert "is full" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_where_the_weights_come_from(release, tmp_path):
    made = convert(str(release), tmp_path / "out")
    raw = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert made.sha256 == hashlib.sha256(raw).hexdigest()
    assert made.bytes == len(raw)
    assert made.sha256 in (tmp_path / "out" / "README.md").read_text()


# TensorFlow itself

WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None  # what `import tensorflow` meets where it is not installed
from gpt2.__main__ import main
sys.exit(main(["convert", *sys.argv[1:]]))
"""


def test_a_source_that_is_something_else_is_called_what_it_is(tmp_path):
    (tmp_path / "nano").mkdir()
    (tmp_path / "nano" / "ckpt.pt").write_bytes(b"")
    for source in (tmp_path / "nano", tmp_path / "nano" / "ckpt.pt"):
        with pytest.raises(UserError, match=r"ckpt.pt is not an OpenAI checkpoint but .*nanoGPT"):
            convert(str(source), tmp_path / "out")
    with pytest.raises(UserError, match="a model folder already"):
        convert(str(STORYTELLER_FOLDER), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_size_has_its_other_names_beside_a_directory_of_that_name(tmp_path, monkeypatch):
    """Beside the source `gpt2` is the package's directory, which is no checkpoint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    asked = []

    def fetch(size: str) -> Path:
        asked.append(size)
        return tmp_path

    monkeypatch.setattr("gpt2.openai.convert.fetch_release", fetch)
    for name in ("gpt2", "124M", "gpt2-xl"):
        with pytest.raises(UserError):
            convert(name, tmp_path / "out")
    assert asked == ["124M", "124M", "1558M"]


def test_a_tokenizer_with_more_than_a_release_can_hold_is_refused(make_model, tmp_path):
    plain = gpt2_tokenizer()
    settings = BytePairSettings((AddedToken(50257, "<|speaker1|>"),))
    with_speaker = BytePairTokenizer(plain.vocabulary, plain.merges, settings)
    save_model(tmp_path, make_model(vocab_size=50258), with_speaker)
    with pytest.raises(UserError, match="no place for added tokens"):
        write_checkpoint(tmp_path, tmp_path / "release")


def test_without_tensorflow_a_clear_word_comes_before_anything_is_fetched(release, tmp_path):
    """A size too: nobody should download half a gigabyte to be told that then."""
    environment = os.environ | {"GPT2_RELEASE_URL": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT)}
    for source in (str(release), "124M"):
        command = [sys.executable, "-c", WITHOUT_TENSORFLOW, source, str(tmp_path / "out")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 2
        assert "pip install tensorflow-cpu" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_tensorflow_is_imported_only_for_a_conversion():
    code = "import gpt2.openai.convert, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
