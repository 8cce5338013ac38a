"""What can be the name of a repository on the Hub, and which names mean a released size.

No PyTorch here: a machine that only deploys has none.
"""

from __future__ import annotations

import re

from gpt2.errors import UserError

# OpenAI's released weights in the layout that `gpt2.folder` reads.
SIZE_REPOSITORIES = {
    "124M": "openai-community/gpt2",
    "355M": "openai-community/gpt2-medium",
    "774M": "openai-community/gpt2-large",
    "1558M": "openai-community/gpt2-xl",
}
# What people call them elsewhere, in lower case, and OpenAI's own first count of parameters.
_SIZE_NAMES = {
    "124M": ("gpt2", "gpt-2", "gpt2-small", "124m", "117m"),
    "355M": ("gpt2-medium", "355m", "345m"),
    "774M": ("gpt2-large", "774m", "762m"),
    "1558M": ("gpt2-xl", "1558m", "1542m", "1.5b"),
}
_SIZE_OF = {other: size for size, others in _SIZE_NAMES.items() for other in others} | {
    repository: size for size, repository in SIZE_REPOSITORIES.items()
}
# Names without an owner that the Hub has had from its first days.
_OTHER_REPOSITORIES = {"distilgpt2": "distilbert/distilgpt2"}
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def is_repository(name: str) -> bool:
    """Whether `name` can be the name of a repository on the Hub, "user/name"."""
    return bool(_REPOSITORY.fullmatch(name)) and "--" not in name and ".." not in name


def full_name(name: str, owner: str = "user") -> str:
    """A repository's name as it is, or a name alone with its owner before it; without an owner,
    with one that is good for checking it."""
    return name if "/" in name else f"{owner}/{name}"


def require_repository(name: object) -> None:
    """`UserError` unless `name` can be the name of a repository."""
    if type(name) is not str or not is_repository(name):
        raise UserError(
            f"{str(name)[:120]!r} is not a repository name. Use user/name, made of "
            'letters, digits, "-", "_" and ".", without "--" and "..".'
        )


def size_named(name: str) -> str | None:
    """The released size that `name` is or means, "124M" of "gpt2" and "openai-community/gpt2".
    Whether a folder has that name is not looked at."""
    return name if name in SIZE_REPOSITORIES else _SIZE_OF.get(name.lower())


def known_repository(name: str) -> str | None:
    """The repository that a name without an owner has had from the Hub's first days."""
    size = size_named(name)
    return SIZE_REPOSITORIES[size] if size else _OTHER_REPOSITORIES.get(name.lower())
