"""What all command lines here share: how commands are listed, how they fail, common flags."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn, TextIO

from gpt2.errors import UserError
from gpt2.files import explain_os_error
from gpt2.settings import is_whole_text

EXIT_DONE, EXIT_USAGE, EXIT_INTERRUPTED = 0, 2, 130


class Parser(argparse.ArgumentParser):
    """argparse with one clear line for a wrong call, as for every other wrong input.

    `fill` adds the arguments when this parser is first used: those of a command, which may need
    PyTorch to know its settings, when that command is called.
    """

    def __init__(self, *given, fill: Callable[[Parser], None] | None = None, **named) -> None:
        super().__init__(*given, **named)
        self._fill = fill

    def parse_known_args(self, args=None, namespace=None):
        fill, self._fill = self._fill, None
        if fill:
            fill(self)
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args(self._with_values(list(words)), namespace)

    def _with_values(self, words: list[str]) -> list[str]:
        """`--flag -value` as `--flag=-value`: argparse takes no value that begins with a dash, and
        texts and names do. A flag of this parser stays one: there a value was forgotten."""
        known = self._option_string_actions
        joined: list[str] = []
        while words:
            word = words.pop(0)
            if word == "--":
                return [*joined, word, *words]
            if (
                words
                and words[0].startswith("-")
                and words[0].partition("=")[0] not in known
                and self._takes_one_value(word)
            ):
                word = f"{word}={words.pop(0)}"
            joined.append(word)
        return joined

    def _takes_one_value(self, word: str) -> bool:
        known = self._option_string_actions
        meant = [word] if word in known else [name for name in known if name.startswith(word)]
        is_flag = word.startswith("--") and len(meant) == 1
        return is_flag and known[meant[0]].nargs is None

    def _get_values(self, action, words):
        if words == ["--"] and action.option_strings:  # before Python 3.13 argparse drops it
            return self._get_value(action, "--")
        return super()._get_values(action, words)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"error: {message} ({self.prog} --help shows the options)\n")


def build_commands(prog: str, description: str, commands: dict) -> Parser:
    """A parser of the commands in a table: name to a module with HELP, DESCRIPTION,
    add_arguments(parser) and run(options)."""
    parser = Parser(prog=prog, description=description)
    rows = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for name, module in commands.items():
        row = rows.add_parser(
            name,
            help=module.HELP,
            description=module.DESCRIPTION,
            fill=module.add_arguments,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        row.set_defaults(run=module.run)
    return parser


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command, which may return a status, and turn all its ends into an exit status."""
    _write_anything()
    try:
        status = command()
        sys.stdout.flush()
        return status or EXIT_DONE
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _leave_quietly()
    except OSError as error:
        print(f"error: {explain_os_error(error)}", file=sys.stderr)
        return EXIT_USAGE


def _leave_quietly() -> int:
    """The reader of a pipe, `head` say, has what it wanted."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_DONE


def _write_anything() -> None:
    """A letter that the encoding of a terminal, a pipe or a file does not have is written as its
    number: nothing is lost and nothing fails."""
    for stream in (sys.stdout, sys.stderr):
        taken = not isinstance(stream, io.TextIOWrapper)  # by something that is not a file
        if not taken and (stream.errors == "strict" or not _is_utf8(stream)):
            stream.reconfigure(errors="backslashreplace")


def _is_utf8(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("_", "-") in ("utf-8", "utf8")


def print_json(value: object) -> None:
    """One line of JSON, readable where the output's encoding has all letters."""
    print(json.dumps(value, ensure_ascii=not _is_utf8(sys.stdout)), flush=True)


def read_standard_input() -> str:
    """All of standard input, in any encoding: as its mark says, or its zero bytes; UTF-8 if it is
    that; else what the system says, or, of a system that knows only UTF-8, what it is found to
    be."""
    from gpt2.text import decode_all

    if not isinstance(sys.stdin, io.TextIOWrapper):
        return sys.stdin.read()
    usual = None if _is_utf8(sys.stdin) else sys.stdin.encoding
    return decode_all(sys.stdin.buffer.read(), "Standard input", usual)


def parse_and_run(parser: Parser, arguments: list[str] | None) -> int:
    """Run the command that `arguments` name, as `run_command` does."""

    def command() -> int | None:
        options = parser.parse_args(arguments)
        _refuse_undecoded(options)
        return options.run(options)

    return run_command(command)


def _refuse_undecoded(options: argparse.Namespace) -> None:
    """Bytes of another encoding come as halves of surrogate pairs; only paths may have them."""
    for name, value in vars(options).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not is_whole_text(text):
                encoding = sys.getfilesystemencoding()
                raise UserError(
                    f"{name} is not {encoding}, which this system's command line is in: "
                    f"{ascii(text)[:60]}. Type it anew, or give it through standard input or a "
                    "file where the command takes one."
                )


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """How texts are read, the same for every command that reads some."""
    parser.add_argument(
        "--column", metavar="NAME", help="the text column of .csv .tsv .json .jsonl .parquet"
    )
    parser.add_argument(
        "--encoding",
        metavar="NAME",
        help="the encoding of the text, where it is not found out by itself (utf-8, cp1252, ...)",
    )


def print_notes(notes: Iterable[str]) -> None:
    """Notes on what was read, for the person, not for the program behind a pipe."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def add_model_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="storyteller",
        metavar="NAME",
        help="a model folder, 124M, 355M, 774M, 1558M, user/repo or storyteller [storyteller]",
    )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="cpu, cuda, cuda:1 or mps, Apple's GPUs, which nobody could try [a GPU, else the CPU]",
    )


def add_format_option(parser: argparse.ArgumentParser) -> None:
    """In which numbers a model generates: `INFERENCE_FORMATS`, whose module imports torch."""
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
        default="auto",
        help="the weights' numbers [auto: the fastest for this model on this machine]",
    )
