"""From files here to files of a Space: what differs, sent as one commit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from gpt2.errors import UserError
from gpt2.hub.space_files import PACKAGES

# What a deployment may remove: modules that are no more, and a list of files to be left out.
_OURS = (*(f"{package}/" for package in PACKAGES), "models/", ".gitignore")


@dataclass(frozen=True)
class SpaceChanges:
    """Paths by what a deployment does to them."""

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.removed)


def read_tree(api, repo_id: str) -> dict[str, str]:
    """Path -> the Hub's name of its content."""
    files = api.list_repo_tree(repo_id, repo_type="space", recursive=True)
    found = [file for file in files if hasattr(file, "blob_id")]
    return {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in found}


def find_changes(files: Mapping[str, bytes], there: Mapping[str, str]) -> SpaceChanges:
    """What has to be done to a Space whose files are `there`, path -> content's name on the Hub.
    What somebody else has put beside the program stays."""
    differs = [path for path in files if there.get(path) not in _names_of(files[path])]
    ours = (path for path in there if path.startswith(_OURS))
    return SpaceChanges(
        new=tuple(path for path in differs if path not in there),
        changed=tuple(path for path in differs if path in there),
        removed=tuple(path for path in ours if path not in files),
    )


def _names_of(content: bytes) -> tuple[str, str]:
    """A file is known by its SHA-256 in LFS, and by git's own SHA-1 elsewhere."""
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha256(content).hexdigest(), hashlib.sha1(header + content).hexdigest()


def upload(api, repo_id: str, files: Mapping[str, bytes], changes: SpaceChanges) -> str | None:
    """One commit, so that the Hub never builds half a program; returns its id, None if there was
    nothing to do. `UserError` if the Hub has not taken a file."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    if not changes:
        return None
    sent = [CommitOperationAdd(path, files[path]) for path in (*changes.new, *changes.changed)]
    done = api.create_commit(
        repo_id,
        [*sent, *map(CommitOperationDelete, changes.removed)],
        commit_message=_message(changes),
        repo_type="space",
    )
    left = find_changes(files, read_tree(api, repo_id))
    if left.new or left.changed:  # a .gitignore there keeps files out, without an error
        missing = ", ".join([*left.new, *left.changed][:5])
        raise UserError(
            f"{repo_id} has not taken {missing}. Run the same command again, and if that does not "
            "help, delete the Space's .gitignore."
        )
    return done.oid


def _message(changes: SpaceChanges) -> str:
    counts = [f"{len(getattr(changes, kind))} {kind}" for kind in ("new", "changed", "removed")]
    return f"Deploy: {', '.join(counts)}"
