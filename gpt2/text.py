"""Text files to documents."""

from __future__ import annotations

import codecs
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gpt2.errors import UserError
from gpt2.tokenizer import END_OF_TEXT

_CHUNK_BYTES = 1 << 20
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_documents(path: str | Path) -> Iterator[str]:
    """The documents of a text file, parted by lines "<|endoftext|>"; the file is read as it goes.

    Its encoding is found out (`find_encoding`); a file .xz is unpacked. `UserError` when the file
    cannot be read or is no text.
    """
    path = Path(path)
    encoding = find_encoding(path)
    lines: list[str] = []
    try:
        with codecs.getreader(encoding)(_open(path)) as file:
            for line in file:
                if line.rstrip("\r\n") != END_OF_TEXT:
                    lines.append(line)
                elif lines:
                    yield "".join(lines)
                    lines = []
    except (OSError, EOFError, UnicodeError, lzma.LZMAError) as error:
        raise UserError(f"{path} cannot be read as {encoding} text: {error}.") from None
    if lines:
        yield "".join(lines)


def find_encoding(path: Path) -> str:
    """"utf-8-sig" and "utf-16" by their marks, "utf-8" if all of it is, else "cp1252"."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with _open(path) as file:
            chunk = file.read(_CHUNK_BYTES)
            for mark, encoding in _BOMS.items():
                if chunk.startswith(mark):
                    return encoding
            while chunk:
                if b"\0" in chunk:
                    raise UserError(f"{path} holds zero bytes: it is no text. Save it as UTF-8 text.")
                decoder.decode(chunk)
                chunk = file.read(_CHUNK_BYTES)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    return "utf-8"


def _open(path: Path) -> BinaryIO:
    return lzma.open(path) if path.suffix == ".xz" else open(path, "rb")
