"""The one exception that is a message to the user, and what of it strangers may see."""

from __future__ import annotations

import re


class UserError(Exception):
    """Something the user gave cannot be used. The text says what is wrong and what to do.

    The command line prints it on one line and exits with status 2; the page shows it as it is.
    """


# The folders of an absolute path at the beginning of a word: neither "user/name" nor an address.
_FOLDERS = re.compile(r"(?<![\w.:/-])/(?:[^\s/'\",;:]+/)+")


def without_paths(text: str) -> str:
    """A text for people who use a server but need not know where it keeps things: of every absolute
    path only the last name is left."""
    return _FOLDERS.sub("", text)
