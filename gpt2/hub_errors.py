"""What the Hub's client raises, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gpt2.errors import UserError
from gpt2.new_folder import FULL

LOG_IN = "log in with `hf auth login`"


@contextmanager
def plain_words(repository: str, offline: str = "") -> Iterator[None]:
    """Turn whatever goes wrong between this machine and the Hub into a `UserError`.

    `offline` is what to say when the Hub cannot be reached at all.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        yield
    except UserError:
        raise
    except HfHubHTTPError as error:
        raise UserError(_explain(error, repository)) from None
    except (OSError, HTTPError) as error:
        if getattr(error, "errno", None) in FULL:
            raise UserError("The disk is full. Make room and try again.") from None
        raise UserError(_explain_lost(error, repository, offline)) from None
    except ValueError as error:  # the client's own checks, of the card and of names
        raise UserError(f"The Hub does not take {repository}: {_first_line(error)}") from None


def _explain(error: Exception, repository: str) -> str:
    """An answer of the Hub that is an error."""
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return f"{repository} is gated: accept its terms on the Hub, then {LOG_IN}."
    if isinstance(error, DisabledRepoError):
        return f"{repository} has been disabled on the Hub."
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} has no such revision. Its page on the Hub lists branches and tags."
    if isinstance(error, RemoteEntryNotFoundError):
        return f"{repository} on the Hub has no config.json: it is no model."
    if status == 401 and "invalid" in str(error).lower() and "credentials" in str(error).lower():
        return f"The Hub does not accept the token: {LOG_IN} again."
    if isinstance(error, RepositoryNotFoundError):
        return f"There is no public repository {repository} on the Hub. If it is private, {LOG_IN}."
    if status == 401:
        return f"The Hub does not accept the token: {LOG_IN} again."
    if status == 403:
        return (
            f"The token has no right to do this with {repository}. It must be one of the owner's, "
            'with the permission "write".'
        )
    if status == 412:
        return f"{repository} was changed by someone else meanwhile. Try again."
    if status == 429:
        return "The Hub asks to wait: too many requests. Try again in some minutes."
    if status >= 500:
        return f"The Hub has a problem of its own (status {status}). Try again later."
    return f"The Hub answered {status} for {repository}: {_first_line(error)}"


def _explain_lost(error: Exception, repository: str, offline: str) -> str:
    """No answer, or half of one."""
    from httpx2 import ConnectError, TimeoutException
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # the client's search in its cache came after what went wrong
    if isinstance(error, (ConnectError, TimeoutException, OfflineModeIsEnabled)):
        return offline or "The Hub cannot be reached. Connect to the internet and try again."
    if isinstance(error, HfHubHTTPError):
        return _explain(error, repository)
    return (
        f"The connection to the Hub for {repository} broke off ({type(error).__name__}: "
        f"{_first_line(error)}). Try again; what has arrived counts."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
