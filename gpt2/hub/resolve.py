"""Names to model folders: `resolve`, from this machine or the Hugging Face Hub.

Nothing here waits for a network that is not there: what is on this machine is used without asking,
and before a download one small request with a short timeout finds out whether the Hub answers.
"""

from __future__ import annotations

import os
from pathlib import Path

from gpt2.errors import UserError
from gpt2.files import expand_home, has_home
from gpt2.folder import MODEL_FILES, is_whole
from gpt2.foreign import explain_foreign
from gpt2.hub.errors import translate_hub_errors
from gpt2.hub.names import SIZE_REPOSITORIES, is_repository, known_repository

STORYTELLER = "storyteller"  # the bundled model
STORYTELLER_FOLDER = Path(__file__).parents[2] / "models" / "storyteller"
DOWNLOAD_BYTES = {"124M": 548e6, "355M": 1.52e9, "774M": 3.25e9, "1558M": 6.43e9}
PROBE_SECONDS = 3.0


def resolve(name: str) -> Path:
    """The model folder that `name` stands for, downloaded if it must be.

    `name` is a model folder, "storyteller" (bundled), a size ("124M", "355M", "774M", "1558M": the
    released weights, "gpt2-xl" and the like, too) or a Hub repository "user/name". A directory that
    is not a model folder does not hide a name. `UserError` says what to do instead when nothing
    can be had under it; offline it comes within the probe's few seconds.
    """
    if local := find_local(name):
        return local
    return _download(name, _repository_of(name))


def find_local(name: str) -> Path | None:
    """The folder of `name` if it is on this machine; asks no network."""
    if type(name) is not str or not name or len(name) > 1000 or "\0" in name:
        raise UserError(f"A model name is a short text, not {str(name)[:40]!r}.")
    if name == STORYTELLER:
        return STORYTELLER_FOLDER
    if name in SIZE_REPOSITORIES:
        return _cached(SIZE_REPOSITORIES[name])
    if is_folder(name):
        return expand_home(name)
    repository = known_repository(name) or name
    return _cached(repository) if is_repository(repository) else None


def is_cached(name: str) -> bool:
    """Whether `resolve(name)` would answer without a download."""
    return find_local(name) is not None


def hub_name(name: str) -> str | None:
    """The Hub repository that a `resolve` name stands for, for a card's `base_model`; or None."""
    if name in SIZE_REPOSITORIES or (not is_folder(name) and known_repository(name)):
        return known_repository(name)
    is_local = name == STORYTELLER or expand_home(name).exists()
    return name if not is_local and is_repository(name) else None


def is_folder(name: str) -> bool:
    """Whether `name` is a model folder on this machine, by its config.json."""
    return os.path.isfile(expand_home(name) / "config.json")


def _repository_of(name: str) -> str:
    if known := known_repository(name):
        return known
    path = expand_home(name)
    if os.path.exists(path):
        raise UserError(explain_foreign(path))
    if path.is_absolute() or not is_repository(name):
        sizes = ", ".join(SIZE_REPOSITORIES)
        raise UserError(
            f"There is no model {name!r}. Give a model folder, a size ({sizes}), "
            'a Hub repository ("user/name") or "storyteller".'
        )
    return name


def _cached(repository: str) -> Path | None:
    """The newest whole snapshot of a repository in the Hub's cache on this machine."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repository, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if is_whole(folder) else None


def probe(
    repository: str,
    revision: str | None = None,
    token: str | bool | None = None,
) -> None:
    """One request for a few bytes, so that a missing network is known in seconds.

    Raises what the Hub's client raises; `hub_errors.translate_hub_errors` says it to people.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    endpoint = os.environ.get("HF_ENDPOINT")
    url = hf_hub_url(repository, "config.json", revision=revision, endpoint=endpoint)
    get_hf_file_metadata(url, timeout=PROBE_SECONDS, token=token)


def _download(name: str, repository: str) -> Path:
    from huggingface_hub import snapshot_download

    offline = (
        f"{name} is not on this machine, and the Hub cannot be reached. Connect to the internet "
        "and try again, or use the bundled model, storyteller."
    )
    _require_cache()
    endpoint = os.environ.get("HF_ENDPOINT")
    with translate_hub_errors(repository, offline):
        probe(repository)
        return Path(
            snapshot_download(repository, allow_patterns=list(MODEL_FILES), endpoint=endpoint)
        )


def _require_cache() -> None:
    """Without a home the client would make a folder "~" wherever it is called."""
    named = any(os.environ.get(name) for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"))
    if not named and not has_home():
        raise UserError(
            "There is no home folder to keep downloads in. Set HF_HOME to a folder for them."
        )
