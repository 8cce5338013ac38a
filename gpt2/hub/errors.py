"""The errors of the Hub's client, in plain words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from gpt2.errors import UserError
from gpt2.files import is_disk_full

LOG_IN = "log in with `hf auth login`"
_NO_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EEXIST)


@contextmanager
def translate_hub_errors(repository: str, offline: str = "") -> Iterator[None]:
    """Turn whatever goes wrong between this machine and the Hub into a `UserError`.

    `offline` is what to say when the Hub cannot be reached at all.
    """
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except (OSError, HTTPError, ValueError, RuntimeError, ImportError) as error:
        raise UserError(_explain(error, repository, offline)) from None


def _explain(error: BaseException, repository: str, offline: str) -> str:
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    # The client reports a failed upload or cache lookup in its own words.
    if isinstance(error, (RuntimeError, LocalEntryNotFoundError)) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, HfHubHTTPError):
        return _explain_answer(error, repository)
    if is_disk_full(error):
        return "The disk is full. Make room and try again."
    if isinstance(error, ImportError):  # the proxy library is missing
        return (
            "The environment names a SOCKS proxy, which needs a library: pip install socksio, or "
            "unset all_proxy. Then try again."
        )
    if isinstance(error, ValueError) and "proxy" in str(error):
        return (
            "The environment names a proxy of an unknown kind. Correct http_proxy, https_proxy and "
            "all_proxy, or unset them."
        )
    if isinstance(error, OSError) and error.errno in _NO_PLACE:
        # Without its path: on the page, visitors read this.
        return (
            f"What comes from the Hub cannot be kept on this machine ({error.strerror}). Set "
            "HF_HOME to a folder that can be written, and try again."
        )
    # By name: which HTTP library they come from depends on the client's version.
    lost = {"ConnectError", "TimeoutException"} & {kind.__name__ for kind in type(error).__mro__}
    if lost or isinstance(error, OfflineModeIsEnabled):
        return offline or "The Hub cannot be reached. Connect to the internet and try again."
    if isinstance(error, ValueError):  # the client's own checks, and the Hub's check of the card
        return f"The Hub does not accept {repository}: {_first_line(error)}"
    return (
        f"The connection to the Hub for {repository} was lost ({type(error).__name__}: "
        f"{_first_line(error)}). Try again; what has arrived is kept."
    )


def _explain_answer(error, repository: str) -> str:
    """What an error response from the Hub means."""
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status, text = error.response.status_code, str(error).lower()
    if isinstance(error, GatedRepoError):
        return f"{repository} is gated: accept its terms on the Hub, then {LOG_IN}."
    if isinstance(error, DisabledRepoError):
        return f"{repository} has been disabled on the Hub."
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} has no such revision. Its page on the Hub lists branches and tags."
    if isinstance(error, RemoteEntryNotFoundError):
        return f"{repository} on the Hub has no config.json: it is not a model."
    refused = status == 401 and "invalid" in text and "credentials" in text
    if isinstance(error, RepositoryNotFoundError) and not refused:
        return f"There is no public repository {repository} on the Hub. If it is private, {LOG_IN}."
    answers = {
        401: f"The Hub does not accept the token: {LOG_IN} again.",
        403: (
            f"The token is not allowed to do this with {repository}. It must be one of the owner's "
            'and have "write" permission.'
        ),
        412: f"{repository} was changed by someone else in the meantime. Try again.",
        429: "The Hub has received too many requests. Try again in a few minutes.",
    }
    if status >= 500:
        return f"The Hub itself has a problem (status {status}). Try again later."
    return answers.get(status, f"The Hub answered {status} for {repository}: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
