"""Pickle files of strangers, read without executing anything and within the file's own size.

Checkpoints of PyTorch go through `torch.load(weights_only=True)`, which builds tensors and plain
containers only. nanoGPT's table of characters is a bare pickle: it is walked instruction by
instruction first, and only those that build numbers, texts, lists and dictionaries are let through.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from gpt2.errors import UserError
from gpt2.folder import STORED_DTYPES

_TABLE_BYTES = 64 << 20  # a table of every character that there is takes 40 MB
_OUTLINE_BYTES = 256 << 20  # of a checkpoint: the names and shapes of its tensors
_NUMBERS = {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "INT", "LONG1"}
_TEXTS = {"BINUNICODE", "SHORT_BINUNICODE", "UNICODE"}
_CONTAINERS = {
    *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
}
_BOOKKEEPING = {
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"),
    *("BINGET", "LONG_BINGET", "GET"),
}
_PLAIN = _NUMBERS | _TEXTS | _CONTAINERS | _BOOKKEEPING


def read_checkpoint(path: Path) -> object:
    """What `torch.save` wrote, tensors on the CPU and mapped from the file where its form allows.
    `UserError` if it is damaged, or holds more than tensors and plain values."""
    is_archive = zipfile.is_zipfile(path)
    if is_archive:
        _require_stored(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values ({_reason(error)}), and to open such "
            "a file can run code. With the program that made it, save the state dict alone: "
            'torch.save(model.state_dict(), "weights.pt")'
        ) from None
    # A damaged file ends torch's reader in nearly any way.
    except (Exception, RecursionError) as error:
        raise UserError(f"{path} is not a sound checkpoint: {_reason(error)}.") from None


def read_character_table(path: Path) -> list[str]:
    """The characters of nanoGPT's meta.pkl, by id. `UserError` if it is anything else."""
    wrong = f"{path} is not a table of characters as nanoGPT writes it"
    try:
        if path.stat().st_size > _TABLE_BYTES:
            raise UserError(f"{wrong}: it has {path.stat().st_size:,} bytes.")
        data = path.read_bytes()
        for operation, argument, _ in pickletools.genops(data):
            too_far = operation.name in ("LONG_BINPUT", "PUT") and argument > len(data)
            if operation.name not in _PLAIN or too_far:
                raise UserError(f"{wrong}: it asks for {operation.name}, which is not run.")
        table = pickle.loads(data)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{wrong}: {_reason(error)}.") from None
    named = table.get("itos") if type(table) is dict else None
    if type(named) is dict and sorted(named, key=repr) == sorted(range(len(named)), key=repr):
        named = [named[index] for index in range(len(named))]
    if type(named) is not list:
        raise UserError(f'{wrong}: it has no table "itos".')
    return named


def tensors_in(path: Path, found: dict) -> dict[str, Tensor]:
    """The tensors of numbers in a state dict, by name. `UserError` for a tensor that claims more
    values than the file holds, so that nobody allocates them."""
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        held = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not held or tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
            raise UserError(f"{path}: {name} has more values than the file.")
    largest = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
    if largest > 3 * path.stat().st_size + 1024:  # a head that is the embedding is there twice
        raise UserError(f"{path}: its tensors have more values than the file.")
    return tensors


def require_stored_type(place: object, name: str, dtype: torch.dtype) -> None:
    """`UserError` unless it is a type that weights have."""
    if dtype not in STORED_DTYPES.values():
        kind = str(dtype).removeprefix("torch.")
        raise UserError(f"{place}: {name} has the type {kind}, not one of floating-point numbers.")


def _require_stored(path: Path) -> None:
    """A compressed entry could be a thousand times as large as the file; torch writes none."""
    try:
        entries = zipfile.ZipFile(path).infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} is not a sound checkpoint: {_reason(error)}.") from None
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise UserError(f"{path} is not a checkpoint of PyTorch: {entry.filename} is packed.")
        if entry.filename.endswith(".pkl") and entry.file_size > _OUTLINE_BYTES:
            raise UserError(f"{path}: its outline has {entry.file_size:,} bytes, which none needs.")


def _reason(error: BaseException) -> str:
    lines = str(error).split("\n")
    found = next((line for line in lines if "GLOBAL" in line or "nsupported" in line), lines[0])
    return (found or type(error).__name__).strip()[:200].rstrip(".")
