"""The files of a byte-pair tokenizer, read and written: tokenizer.json, or vocab.json with
merges.txt, and what tokenizer_config.json, special_tokens_map.json and added_tokens.json add.

What a file says that changes ids is in what `read_byte_pairs` returns, and is written again by
`write_byte_pairs`; a setting that is not followed here is refused by name, never passed over.
What only shapes batches (padding, truncation) and what only decodes is not kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from gpt2.added_tokens import NORMALIZERS, AddedToken
from gpt2.byte_pairs import END_OF_TEXT, ROLES, BytePairs, BytePairSettings
from gpt2.errors import UserError
from gpt2.files import read_json, write_json, write_text

BYTE_PAIR_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json")
# What older programs put their added tokens into; read, and written into the files above.
ADDED_TOKEN_FILES = ("special_tokens_map.json", "added_tokens.json")
_MORE_SPECIAL = ("additional_special_tokens", "extra_special_tokens")
_GPT2_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")
# Those that run GPT-2's algorithm over vocab.json and merges.txt, or whatever tokenizer.json says.
_CLASSES = (*_GPT2_CLASSES, "PreTrainedTokenizerFast", "TokenizersBackend", None)
_KEPT_WITH_NORMALIZER = "PreTrainedTokenizerFast"  # GPT2Tokenizer would drop the normalizer
_UNFOLLOWED = ("add_bos_token", "add_eos_token", "split_special_tokens")
_UNFOLLOWED_MODEL = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
_FLAGS = tuple(field.name for field in fields(AddedToken) if field.name not in ("id", "content"))


def has_byte_pairs(folder: Path) -> bool:
    """Whether a folder holds the files of a byte-pair tokenizer, whole or broken."""
    pair = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    return pair or (folder / "tokenizer.json").is_file()


def read_byte_pairs(folder: Path) -> BytePairs:
    """What the tokenizer's files in `folder` say. `UserError` names what cannot be followed."""
    config = _read_object(folder / "tokenizer_config.json", if_missing={})
    special = _read_object(folder / "special_tokens_map.json", if_missing={}) | config
    _refuse_unfollowed(folder / "tokenizer_config.json", config, _UNFOLLOWED)
    path = folder / "tokenizer.json"
    if path.is_file():
        described = _read_object(path)
        vocabulary, merges = _read_model(path, described.get("model"))
        prefix = _read_pre_tokenizer(path, described.get("pre_tokenizer"))
        if config.get("tokenizer_class") in _GPT2_CLASSES:  # they look at their own file only
            prefix = config.get("add_prefix_space")
        normalizer = _read_normalizer(path, described.get("normalizer"))
        _refuse_template(path, described.get("post_processor"))
    else:
        described, prefix, normalizer = {}, config.get("add_prefix_space"), ()
        vocabulary = read_vocabulary(folder / "vocab.json")
        merges = read_merges(folder / "merges.txt")
        if config.get("tokenizer_class") not in _CLASSES:
            name = config["tokenizer_class"]
            raise _unfollowed(folder / "tokenizer_config.json", f"the tokenizer_class {name!r}")
    added = _collect_added(folder, described, config, special, vocabulary)
    known = vocabulary.keys() | {token.content for token in added}
    roles = [(role, _content(special.get(role))) for role in ROLES]
    settings = BytePairSettings(
        added=tuple(added),
        roles=tuple((role, content) for role, content in roles if content in known),
        add_prefix_space=prefix is True,
        normalizer=normalizer,
    )
    pairs = BytePairs(vocabulary, merges, settings)
    if described:
        _refuse_two_tokenizers(folder, pairs)
    return pairs


def write_byte_pairs(folder: Path, pairs: BytePairs) -> None:
    """Write `BYTE_PAIR_FILES`, each of which other programs read: `tokenizers`, `transformers`,
    llama.cpp's converter."""
    end_of_text = pairs.end_of_text
    settings = pairs.settings
    table = json.dumps(pairs.vocabulary, ensure_ascii=False)  # on one line, as published
    write_text(folder / "vocab.json", table)
    merges = [f"{left} {right}" for left, right in pairs.merges]
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    roles = dict(settings.roles) or dict.fromkeys(ROLES[:3], end_of_text)
    described = {
        "tokenizer_class": _KEPT_WITH_NORMALIZER if settings.normalizer else "GPT2Tokenizer",
        "add_prefix_space": settings.add_prefix_space,
        # Spelled out even where there is none: transformers would put in its own.
        **{role: roles.get(role) for role in ROLES[:3]},
        **roles,
        "eos_token": end_of_text,
    }
    if {token.content for token in settings.added} - {END_OF_TEXT}:
        described["added_tokens_decoder"] = {
            str(token.id): _described(token, with_id=False) for token in settings.added
        }
    write_json(folder / "tokenizer_config.json", described)
    text = json.dumps(_tokenizer_json(pairs, merges), ensure_ascii=False)
    write_text(folder / "tokenizer.json", text + "\n")


def write_characters(folder: Path, ids: dict[str, int]) -> None:
    """The files from which other programs make the tokenizer of a character model: byte pairs
    without bytes and without pairs, so that each character stays alone. What is not in the table
    they pass over."""
    described = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},  # no spaces between them
        "model": {"type": "BPE", "vocab": ids, "merges": []},
    }
    write_text(folder / "tokenizer.json", json.dumps(described, ensure_ascii=False) + "\n")
    config = {"tokenizer_class": _KEPT_WITH_NORMALIZER, "clean_up_tokenization_spaces": False}
    write_json(folder / "tokenizer_config.json", config)


def read_merges(path: Path) -> list[tuple[str, str]]:
    """merges.txt: "left right" a line, in the order in which they are applied."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    lines = lines[1:] if lines[0].startswith("#version") else lines
    return _as_merges(path, [line for line in lines if line])


def read_vocabulary(path: Path) -> dict[str, int]:
    """vocab.json: tokens to ids."""
    return _check_vocabulary(path, read_json(path))


def _read_model(path: Path, model: object) -> tuple[dict[str, int], list[tuple[str, str]]]:
    kind = model.get("type", "BPE") if type(model) is dict else None
    if kind != "BPE" or type(model.get("merges")) is not list:
        raise _unfollowed(path, f"the model {kind!r}")
    _refuse_unfollowed(path, model, _UNFOLLOWED_MODEL)
    vocabulary = _check_vocabulary(path, model.get("vocab"))
    return vocabulary, _as_merges(path, model["merges"])


def _check_vocabulary(path: Path, vocabulary: object) -> dict[str, int]:
    if type(vocabulary) is not dict or any(type(index) is not int for index in vocabulary.values()):
        raise UserError(f"{path} is not a table from tokens to ids.")
    return vocabulary


def _as_merges(path: Path, listed: list[Any]) -> list[tuple[str, str]]:
    """Merges as merges.txt and older tokenizer.json have them, "a b", or as lists of two."""
    merges = [tuple(pair.split(" ") if type(pair) is str else _as_list(pair)) for pair in listed]
    for index, pair in enumerate(merges):
        if len(pair) != 2 or not pair[0] or not pair[1]:
            raise UserError(f"{path} has a line that is not a merge: {listed[index]!r}")
    return merges


def _as_list(pair: object) -> list[str]:
    return pair if type(pair) is list and all(type(part) is str for part in pair) else []


def _read_pre_tokenizer(path: Path, described: object) -> object:
    """Whether a space is put before a text; the words are cut as GPT-2 does, or it is refused."""
    steps = list(_steps(described, "pretokenizers"))
    if [step.get("type") for step in steps] != ["ByteLevel"]:
        names = " + ".join(str(step.get("type")) for step in steps) or "none"
        raise _unfollowed(path, f"the pre_tokenizer {names}")
    if steps[0].get("use_regex", True) is not True:
        raise _unfollowed(path, "the pre_tokenizer ByteLevel without use_regex")
    return steps[0].get("add_prefix_space", True)


def _read_normalizer(path: Path, described: object) -> tuple[str, ...]:
    names = tuple(str(step.get("type")) for step in _steps(described, "normalizers"))
    for name in names:
        if name not in NORMALIZERS:
            raise _unfollowed(path, f"the normalizer {name}")
    return names


def _refuse_template(path: Path, described: object) -> None:
    for step in _steps(described, "processors"):
        template = step.get("single")
        if step.get("type") == "TemplateProcessing" and type(template) is list:
            if all(type(part) is dict and "Sequence" in part for part in template):
                continue
        elif step.get("type") == "ByteLevel":  # of offsets only
            continue
        raise _unfollowed(
            path, f"the post_processor {step.get('type')}, which adds tokens to texts"
        )


def _steps(described: object, parts: str) -> Iterator[dict[str, Any]]:
    """A part of tokenizer.json, and those that a "Sequence" holds."""
    if type(described) is dict and described.get("type") == "Sequence":
        for step in described.get(parts) or []:
            yield from _steps(step, parts)
    elif described is not None:
        yield described if type(described) is dict else {"type": described}


def _collect_added(
    folder: Path,
    described: dict[str, Any],
    config: dict[str, Any],
    special: dict[str, Any],
    vocabulary: dict[str, int],
) -> list[AddedToken]:
    """The added tokens of all files, by id. Two files may say the same, not the contrary."""
    tokens: dict[str, AddedToken] = {}

    def add(path: Path, index: object, fields: object, **defaults: bool) -> None:
        token = _added_token(path, index, fields, defaults)
        before = tokens.setdefault(token.content, token)
        if vocabulary.get(token.content, token.id) != token.id or before.id != token.id:
            raise UserError(f"{path} gives {token.content!r} the id {token.id}, another file not.")

    path = folder / "tokenizer_config.json"
    for index, fields_ in _items(config.get("added_tokens_decoder"), path):
        add(path, index, fields_)
    path = folder / "tokenizer.json"
    listed = described.get("added_tokens") or []
    for fields_ in listed if type(listed) is list else [listed]:
        add(path, fields_.get("id") if type(fields_) is dict else None, fields_)
    named = {_content(token): token for token in _special_tokens(special)}
    path = folder / "added_tokens.json"
    for content, index in _read_object(path, if_missing={}).items():
        is_special = content in named
        fields_ = named[content] if type(named.get(content)) is dict else content
        add(path, index, fields_, special=is_special, normalized=not is_special)
    for content, fields_ in named.items():  # in the vocabulary, and special by their part
        if content in vocabulary and content not in tokens:
            add(path, vocabulary[content], fields_, special=True, normalized=False)
    return sorted(tokens.values(), key=lambda token: token.id)


def _added_token(path: Path, index: object, given: object, defaults: dict[str, bool]) -> AddedToken:
    values = given if type(given) is dict else {"content": given}
    number = int(index) if type(index) is str and index.isdecimal() else index
    flags = {name: values[name] for name in _FLAGS if name in values}
    sound = type(number) is int and all(type(flag) is bool for flag in flags.values())
    if not sound or type(values.get("content")) is not str or not values["content"]:
        raise UserError(f"{path} has an added token that is none: {str(given)[:200]} ({index!r}).")
    return AddedToken(number, values["content"], **(defaults | flags))


def _special_tokens(special: dict[str, Any]) -> Iterator[object]:
    for role in ROLES:
        if _content(special.get(role)) is not None:
            yield special[role]
    for name in _MORE_SPECIAL:
        more = special.get(name) or []
        for token in more.values() if type(more) is dict else more:
            if _content(token) is not None:
                yield token


def _content(token: object) -> str | None:
    """Of a token that is written as a text or as an object with its flags."""
    content = token.get("content") if type(token) is dict else token
    return content if type(content) is str else None


def _refuse_two_tokenizers(folder: Path, pairs: BytePairs) -> None:
    """vocab.json and merges.txt beside tokenizer.json must agree: other programs read either."""
    path = folder / "vocab.json"
    vocabulary = read_vocabulary(path) if path.is_file() else pairs.vocabulary
    different = vocabulary != pairs.vocabulary and not vocabulary.items() <= pairs.ids.items()
    if not different:
        path = folder / "merges.txt"
        different = path.is_file() and read_merges(path) != pairs.merges
    if different:
        raise UserError(
            f"{path} and tokenizer.json beside it are of two tokenizers. Remove what is not this "
            "model's."
        )


def _refuse_unfollowed(path: Path, described: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if described.get(name):
            raise _unfollowed(path, f"{name} {described[name]!r}")


def _unfollowed(path: Path, what: str) -> UserError:
    return UserError(
        f"{path} asks for {what}, which this program does not follow: texts would become other "
        "tokens than those that the model knows. Use transformers for this model, or another model."
    )


def _items(described: object, path: Path) -> list[tuple[str, object]]:
    if described is None:
        return []
    if type(described) is not dict:
        raise UserError(f"{path}: added_tokens_decoder is not a JSON object.")
    return list(described.items())


def _read_object(path: Path, if_missing: dict[str, Any] | None = None) -> dict[str, Any]:
    if if_missing is not None and not path.is_file():
        return if_missing
    described = read_json(path)
    if type(described) is not dict:
        raise UserError(f"{path} is not a JSON object.")
    return described


def _tokenizer_json(pairs: BytePairs, merges: list[str]) -> dict[str, Any]:
    """The file of the `tokenizers` library."""
    added = list(pairs.settings.added)
    end = pairs.end_of_text
    if end is not None and end not in {token.content for token in added}:
        added.append(AddedToken(pairs.ids[end], end, special=True, normalized=False))
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    steps = [{"type": name} for name in pairs.settings.normalizer]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_described(token) for token in sorted(added, key=lambda token: token.id)],
        "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
        "pre_tokenizer": byte_level | {"add_prefix_space": pairs.settings.add_prefix_space},
        "post_processor": byte_level | {"add_prefix_space": True, "trim_offsets": False},
        "decoder": byte_level | {"add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": pairs.vocabulary,
            "merges": merges,
        },
    }


def _described(token: AddedToken, with_id: bool = True) -> dict[str, Any]:
    values = asdict(token)
    return values if with_id else {name: values[name] for name in values if name != "id"}
