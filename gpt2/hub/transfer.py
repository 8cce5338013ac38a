"""Model folders to the Hugging Face Hub and back: `push` and `pull`.

A token is only ever handed to the Hub's client: it is not stored, logged, or looked up here.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from gpt2.errors import UserError
from gpt2.files import expand_home, new_folder, require_unused
from gpt2.folder import (
    CONFLICTING_FILES,
    MODEL_FILES,
    is_whole,
    load_model,
    load_model_shape,
)
from gpt2.hub.errors import translate_hub_errors
from gpt2.hub.names import require_repository
from gpt2.hub.resolve import probe
from gpt2.model_card import CardFacts, write_card

_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,200}")


class RepositoryExists(UserError):
    """The repository exists and has files, or is public although a private one was asked for.

    `push(..., overwrite=True)` replaces its files; it stays as public or private as it is.
    """


def push(
    folder: str | Path,
    repo_id: str,
    token: str,
    private: bool = True,
    *,
    revision: str | None = None,
    pull_request: bool = False,
    overwrite: bool = False,
) -> str:
    """Put a model folder on the Hub as `repo_id` ("user/name"); returns its address.

    A folder without a card gets one. The repository is created, private by default. One that
    exists raises `RepositoryExists`, unless it is empty and no more public than asked for, or
    `overwrite` is true: then its files are replaced, and it stays as public as it was.
    `revision` is a branch, created if needed; `pull_request` instead proposes the files to an
    existing repository, no matter who owns it. If nothing differs, no commit is made.
    For anything else that goes wrong, `UserError` says so in plain words.
    """
    from huggingface_hub import HfApi

    folder = expand_home(folder)
    _check_names(repo_id, revision)
    if pull_request and revision is not None:
        raise UserError("A pull request goes to the main branch: leave the revision out.")
    if type(token) is not str or not token.strip():
        raise UserError(
            "Pushing needs a token for the Hugging Face Hub with write permission: log in with "
            "`hf auth login`, or set HF_TOKEN."
        )
    load_model(folder, device="cpu")  # nobody should publish what nobody can open
    if not (folder / "README.md").is_file():
        write_card(folder, CardFacts(title=repo_id.partition("/")[2]))
    endpoint = os.environ.get("HF_ENDPOINT")
    api = HfApi(token=token, endpoint=endpoint)
    with translate_hub_errors(repo_id):
        _check_reachable(repo_id, token)
        if not pull_request:
            _create(api, repo_id, private, overwrite)
            if revision not in (None, "main"):
                api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=files_to_push(folder),
            delete_patterns=[*MODEL_FILES, *CONFLICTING_FILES],
            revision=revision,
            create_pr=pull_request,
            commit_message=f"Upload {folder.resolve().name}",
        )
    tree = "" if revision in (None, "main") else f"/tree/{revision}"
    return commit.pr_url or f"{api.endpoint}/{repo_id}{tree}"


def pull(
    repo_id: str, folder: str | Path, token: str | None = None, revision: str | None = None
) -> Path:
    """Copy the model `repo_id` from the Hub into a new folder, and return the folder.

    Without a token, only from public repositories. An interrupted download is resumed by the next
    call.
    """
    from huggingface_hub import snapshot_download

    folder = expand_home(folder)
    _check_names(repo_id, revision)
    require_unused(folder)
    with translate_hub_errors(repo_id):
        probe(repo_id, revision, token or False)
    kept_for = re.sub(r"\W", "-", f"{repo_id}@{revision or 'main'}")
    with new_folder(folder, keep=kept_for) as aside:
        with translate_hub_errors(repo_id):
            snapshot_download(
                repo_id,
                revision=revision,
                token=token or False,
                local_dir=aside,
                allow_patterns=list(MODEL_FILES),
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        try:
            _check_model(repo_id, aside)
        except UserError:
            shutil.rmtree(aside)  # there is nothing to resume
            raise
        shutil.rmtree(aside / ".cache", ignore_errors=True)  # the client's notes about the download
    return folder


def files_to_push(folder: Path) -> list[str]:
    """The names of a folder's files that make up the model; nothing else leaves this machine."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    if "model.safetensors" in names:  # an index next to it is a leftover
        names = [name for name in names if not fnmatch(name, "model*-of-*.safetensors")]
        names = [name for name in names if name != "model.safetensors.index.json"]
    return [name for name in names if any(fnmatch(name, pattern) for pattern in MODEL_FILES)]


def _check_model(repo_id: str, folder: Path) -> None:
    if not is_whole(folder):
        raise UserError(
            f"{repo_id} is not a model that this program can open: it needs model.safetensors, and "
            "tokenizer.json, vocab.json with merges.txt, or characters.json. A pytorch_model.bin "
            "can be converted: hf download, then python -m gpt2 convert."
        )
    load_model_shape(folder)


def _create(api, repo_id: str, private: bool, overwrite: bool) -> None:
    """Create the repository, or make sure that it may be written to."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_repo(repo_id, private=private is not False)
    except HfHubHTTPError as error:
        if error.response.status_code != 409:
            raise
        found = api.model_info(repo_id)
        held = {file.rfilename for file in found.siblings or []} - {".gitattributes"}
        exposed = private is not False and not found.private
        if (held or exposed) and not overwrite:
            state = "private" if found.private else "public"
            content = "has files" if held else "is empty"
            raise RepositoryExists(f"{repo_id} exists already, is {state} and {content}.") from None


def _check_reachable(repo_id: str, token: str) -> None:
    """Find out in seconds if there is no Hub: the client's own requests wait without limit."""
    from huggingface_hub.errors import HfHubHTTPError

    with suppress(HfHubHTTPError):  # any answer means that it is there
        probe(repo_id, token=token)


def _check_names(repo_id: str, revision: str | None) -> None:
    require_repository(repo_id)
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise UserError(f"{revision[:120]!r} is not a branch, a tag or a commit.")
