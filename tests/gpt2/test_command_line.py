"""python -m gpt2 as its users call it, in real processes."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt2.__main__ import build_parser, main
from gpt2.command_line import print_json, read_standard_input, run_command
from gpt2.errors import UserError
from gpt2.folder import save_model
from gpt2.generate import generate_text
from gpt2.inference import load_for_inference
from gpt2.sampling import Sampling
from gpt2.settings import as_flags, given_flags, settings_of

ROOT = Path(__file__).parents[2]
RESULT = {"text", "tokens", "tokens_per_second", "seed", "stop_reason"}
SCORE = {"loss", "perplexity", "bits_per_byte", "tokens", "window", "stride", "dtype"}


@pytest.fixture(scope="module")
def folder(make_model, characters, tmp_path_factory):
    path = tmp_path_factory.mktemp("toy")
    save_model(path, make_model(scale=0.1), characters)
    return path


def start(*arguments: object, **pipes: object) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gpt2", *map(str, arguments)]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | pipes
    return subprocess.Popen(command, env=environment, **settings)


def call(*arguments: object, given: str | None = None) -> tuple[int, str, str]:
    process = start(*arguments, stdin=subprocess.PIPE)
    out, error = process.communicate(given, timeout=120)
    return process.returncode, out, error


def test_json_is_one_object_with_the_promised_names(folder):
    flags = ["--model", folder, "--max-new-tokens", 20, "--seed", 7, "--json"]
    status, out, error = call("generate", "Once", *flags)
    assert status == 0, error
    result = json.loads(out)
    assert set(result) == RESULT
    assert (result["tokens"], result["seed"], result["stop_reason"]) == (20, 7, "length")
    assert result["tokens_per_second"] > 0
    model, tokenizer = load_for_inference(str(folder))
    sampling = Sampling(max_new_tokens=20, seed=7)
    assert result["text"] == "".join(generate_text(model, tokenizer, "Once", sampling))


def test_without_json_the_text_is_on_stdout_and_the_figures_on_stderr(folder):
    flags = ["--model", folder, "--max-new-tokens", 20, "--temperature", 0]
    status, out, error = call("generate", "Once", *flags)
    assert status == 0
    assert out.startswith("Once")
    assert len(out) == len("Once") + 20 + 1
    assert error.startswith("[20 tokens, ")
    assert error.endswith("stopped: length]\n")


@pytest.mark.parametrize("style", [[], ["--samples", "2"], ["--json"]])
def test_no_prompt_is_the_default_one_and_part_of_the_text(folder, tmp_path, call_here, style):
    begun = tmp_path / "begun"
    shutil.copytree(folder, begun)
    path = begun / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"default_prompt": "Once upon"}))
    flags = ["--model", str(begun), "--max-new-tokens", "5", "--seed", "7", *style]
    status, out, _ = call_here(main, "generate", "", *flags)
    same, given, _ = call_here(main, "generate", "Once upon", *flags)
    assert status == same == 0
    if style == ["--json"]:
        out, given = (json.loads(words)["text"] for words in (out, given))
        given = "Once upon" + given
    assert out == given
    assert out.startswith("Once upon")


def test_the_prompt_may_come_from_stdin(folder):
    flags = ["--model", folder, "--seed", 7, "--json"]
    assert (
        call("generate", "-", *flags, given="Once")[1].partition('"tokens_per')[0]
        == (call("generate", "Once", *flags)[1].partition('"tokens_per')[0])
    )


@pytest.mark.parametrize("system", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_standard_input_may_be_in_any_encoding(monkeypatch, system, encoding):
    pipe = io.BytesIO("Grüße, “天鹅”\r\n".encode(encoding))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe, encoding=system))
    assert read_standard_input() == "Grüße, “天鹅”\n"


def test_of_a_system_that_is_not_utf_8_standard_input_is_what_it_says(monkeypatch):
    pipe = io.BytesIO("Grüße".encode("cp437"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe, encoding="cp437"))
    assert read_standard_input() == "Grüße"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_output_that_has_not_all_letters_loses_none(monkeypatch, encoding):
    """A pipe of Windows, or of LANG=...ISO-8859-1, ended in a UnicodeEncodeError."""
    words = "Привет “мир” 🙂 \udce9"
    written, told = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(sys, "stderr", told)

    def command():
        print(words)
        print_json({"text": words})
        raise UserError(words)

    assert run_command(command) == 2
    for stream in (written, told):
        stream.flush()
    line, record = written.buffer.getvalue().decode(encoding).splitlines()
    assert line.encode("ascii", "backslashreplace").decode("unicode_escape") == words
    assert json.loads(record)["text"] == words
    assert told.buffer.getvalue().startswith(b"error: ")


def test_a_word_of_another_encoding_is_refused_in_words(folder, call_here):
    """Bytes that are not the system's come as halves of surrogate pairs."""
    status, out, error = call_here(main, "generate", "caf\udce9", "--model", str(folder))
    assert (status, out) == (2, "")
    assert error.startswith("error: prompt is not utf-8")
    assert "caf" in error


def test_several_samples_are_a_line_each_with_seeds_of_their_own(folder):
    flags = ["--model", folder, "--samples", 3, "--seed", 5, "--json", "--max-new-tokens", 9]
    lines = [json.loads(line) for line in call("generate", "Once", *flags)[1].splitlines()]
    assert [line["seed"] for line in lines] == [5, 6, 7]
    assert len({line["text"] for line in lines}) == 3


def test_an_overlong_prompt_says_what_is_dropped(folder):
    flags = ["--model", folder, "--max-new-tokens", 2]
    status, _, error = call("generate", "x" * 100, *flags)
    assert status == 0
    assert "first 36 tokens" in error


def test_score_prints_the_promised_names(folder, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("some plain text to score, longer than one window of the toy model " * 3)
    status, out, error = call("score", file, "--model", folder, "--json")
    assert status == 0, error
    assert set(json.loads(out)) == SCORE
    assert json.loads(out)["tokens"] == len(file.read_text()) - 1
    assert "bits per byte" in call("score", file, "--model", folder)[1]


def test_score_reads_tables_and_encodings_as_training_does(folder, tmp_path, call_here):
    plain, table = tmp_path / "a.txt", tmp_path / "a.csv"
    plain.write_text("some text to score<|endoftext|>and another")
    table.write_bytes("id;text\n1;some text to score\n2;and another\n".encode("utf-16-le"))
    asked = ["--model", str(folder), "--json"]
    status, first, notes = call_here(main, "score", str(plain), *asked)
    assert (status, notes) == (0, "note: documents are parted at 1 <|endoftext|>\n")
    for encoding in ([], ["--encoding", "utf-16-le"]):
        flags = ["--column", "text", *encoding, *asked]
        status, second, notes = call_here(main, "score", str(table), *flags)
        assert (status, notes) == (0, "note: read as utf-16-le\n")
        assert second == first
    status, _, error = call_here(main, "score", str(plain), "--column", "text", *asked)
    assert status == 2
    assert "plain text, which has no columns" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "x", "--temperature", "nan"], "temperature must be a number from 0 to 100"),
        (["generate", "x", "--top-k", "1.5"], "top_k must be a whole number"),
        (["generate", "x", "--top-p", "0"], "top_p must be a number above 0 and at most 1"),
        (["generate", "x", "--max-new-tokens", "0"], "max_new_tokens"),
        (["generate", "x", "--seed", str(2**64)], "seed must be"),
        (["generate", "x", "--seed", "many"], "seed must be a whole number"),
        (["generate", "x", "--model", "no-such"], "There is no model 'no-such'"),
        (["generate", "x", "--model", "{empty}"], "not a model folder"),
        (["generate", "x\u20ac", "--model", "{folder}"], "U+20AC, at position 1"),
        (["generate"], "PROMPT"),
        (["write", "x"], "invalid choice"),
        ([], "COMMAND"),
        (["score", "missing.txt", "--model", "{folder}"], "There is no file missing.txt"),
    ],
)
def test_a_wrong_call_is_one_clear_line_and_status_2(
    folder, tmp_path, call_here, arguments, message
):
    filled = [argument.format(folder=folder, empty=tmp_path) for argument in arguments]
    status, out, error = call_here(main, *filled)
    assert (status, out) == (2, "")
    assert message in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1


def test_control_c_ends_with_130_and_without_a_traceback(folder):
    def heed() -> None:  # a program that nohup or cron started hands SIGINT on ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    words = ("generate", "x", "--model", folder, "--max-new-tokens", 100_000)
    process = start(*words, preexec_fn=heed)
    assert process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in error


def test_a_reader_that_leaves_ends_it_quietly(folder):
    """... | head -c 20"""
    process = start("generate", "x", "--model", folder, "--max-new-tokens", 100_000)
    assert process.stdout.read(20)
    process.stdout.close()
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.returncode == 0
    assert process.stderr.read() == ""


# Texts that begin with a dash, escapes, several


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--stop", "---"], ("---",)),
        (["--stop", "-x"], ("-x",)),
        (["--stop", "- item"], ("- item",)),
        (["--stop", "--"], ("--",)),
        (["--stop", "-1"], ("-1",)),
        (["--stop=--json"], ("--json",)),
        (["--sto", "---"], ("---",)),
        (["--stop", r"\n"], ("\n",)),
        (["--stop", r"\\n"], (r"\n",)),
        (["--stop", "---", "--stop", r"\n\n", "--stop", "END"], ("---", "\n\n", "END")),
        (["--stop", ""], ()),
        ([], ()),
    ],
    ids=str,
)
def test_stop_texts_on_the_command_line(words, meant):
    options = build_parser().parse_args(["generate", *words, "--json", "--", "--stop"])
    assert Sampling(**given_flags(options, settings_of(Sampling))).stop == meant
    assert (options.prompt, options.json) == ("--stop", True)


def test_a_sampling_as_flags_is_that_sampling_again():
    for stop in ("", "--", "---", "-x", "\n", r"\n", ["a", "--json", "'\"$x\t"], "é\u2028"):
        sampling = Sampling(seed=3, stop=stop, stop_at_end_of_text=not stop)
        options = build_parser().parse_args(["generate", *as_flags(sampling), "--", "-"])
        assert Sampling(**given_flags(options, settings_of(Sampling))) == sampling


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "x", "--stop", "--json"], "argument --stop: expected one argument"),
        (["generate", "x", "--stop", "--seed=1"], "argument --stop: expected one argument"),
        (["generate", "x", "--stop"], "argument --stop: expected one argument"),
        (["generate", "x", "--seed", "-x"], "seed must be a whole number"),
        (["generate", "x", "--model", "-no-such"], "There is no model '-no-such'"),
        (["generate", "x", "--stop", r"\ud800"], "half a surrogate pair"),
        (["generate", "x", "--jso", "--", "-y"], "unrecognized arguments"),
        (["generate", "x", *["--stop", "y"] * 17], "stop must be at most 16 texts"),
    ],
)
def test_a_forgotten_value_is_still_found_out(call_here, arguments, message):
    status, out, error = call_here(main, *arguments)
    assert (status, out) == (2, "")
    assert message in error
