"""This program as a Space on the Hugging Face Hub: made once, brought up to date by the same call.

Everything goes through the Hub's client, which puts binary files where the Hub wants them; a `git
push` of them is refused. No PyTorch here, and a token is only ever handed to the client.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gpt2.errors import UserError
from gpt2.hub.names import full_name, require_repository
from gpt2.hub.space_errors import ZERO_GPU, translate_space_errors
from gpt2.hub.space_files import MODEL_VARIABLE, find_space_model, space_files
from gpt2.hub.space_upload import SpaceChanges, find_changes, read_tree, upload

_REACH_SECONDS = 10.0
BUCKET_PLACE = "/bucket"  # `app.py --mirror`, on a Space
_BUNDLED = "storyteller"


@dataclass(frozen=True)
class SpaceOrder:
    """What is to be deployed, and how."""

    repo_id: str  # user/name, or a name in the token's own account
    hardware: str | None = None  # None: ZeroGPU for a new Space, unchanged for one that exists
    model: str | None = None  # None: the bundled one, or what the Space has started with so far
    private: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    overwrite: bool = False  # also a Space that holds another program
    bucket: str | None = None  # keeps copies of runs; made where it is not there


@dataclass(frozen=True)
class Deployment:
    """A Space as it was left: up to date, and being built if anything has changed."""

    repo_id: str
    page: str  # its address on the Hub
    commit: str | None  # None: no file has changed
    changes: SpaceChanges


class SpaceExists(UserError):
    """The Space exists and holds another program; `SpaceOrder.overwrite` replaces its files."""


def deploy(order: SpaceOrder, token: str | None, tell: Callable[[str], None]) -> Deployment:
    """Create or update a Space, upload what has changed, and say to `tell` what was done.

    `UserError` says in one sentence what to do about anything that goes wrong. An upload that broke
    off is taken up by the next call.
    """
    from huggingface_hub import HfApi

    order = _checked(order)
    if type(token) is not str or not token.strip():
        raise UserError(
            "Deploying needs a token for the Hugging Face Hub with write permission: log in with "
            "`hf auth login`, or set HF_TOKEN."
        )
    api = HfApi(token=token, endpoint=os.environ.get("HF_ENDPOINT"))
    with translate_space_errors(order.repo_id):
        order = replace(order, repo_id=_in_account(api, order.repo_id))
        found = _find(api, order.repo_id)
        if found is None:
            model = _model(api, order.model)
            _create(api, order)
            tell(f"created {order.repo_id} on {order.hardware or ZERO_GPU}")
        else:
            _require_ours(order, found)
            model = _model(api, order.model or _started_with(api, order.repo_id))
            _update(api, order, found, tell)
        if order.bucket:
            _mount(api, order, found, tell)
        files = space_files(model)
        changes = find_changes(files, read_tree(api, order.repo_id))
        commit = upload(api, order.repo_id, files, changes)
    for kind in ("new", "changed", "removed"):
        for path in getattr(changes, kind):
            tell(f"{kind} {path}")
    page = f"{api.endpoint}/spaces/{order.repo_id}"
    return Deployment(order.repo_id, page, commit, changes)


def _mount(api, order: SpaceOrder, found, tell: Callable[[str], None]) -> None:
    """The bucket, private, where the program looks for it; other volumes stay. The Hub replaces the
    whole list, and restarts the Space, so only where it is not mounted."""
    from huggingface_hub import Volume

    name = full_name(order.bucket, owner=order.repo_id.partition("/")[0])
    there = (found.runtime.volumes if found and found.runtime else None) or []
    others = [one for one in there if one.mount_path != BUCKET_PLACE]
    if any(one.mount_path == BUCKET_PLACE and one.source == name for one in there):
        return
    api.create_bucket(name, private=True, exist_ok=True)
    mounted = Volume(type="bucket", source=name, mount_path=BUCKET_PLACE)
    api.set_space_volumes(order.repo_id, [*others, mounted])
    tell(f"runs are copied to the bucket {name}")


def _checked(order: SpaceOrder) -> SpaceOrder:
    """The order, its model as a variable of the Space. `UserError` for what can be no name."""
    require_repository(full_name(order.repo_id))
    if order.bucket is not None:
        require_repository(full_name(order.bucket))
    if order.model is None:
        return order
    return replace(order, variables={**order.variables, MODEL_VARIABLE: order.model})


def _in_account(api, repo_id: str) -> str:
    """The full name. `UserError` if the token cannot write there."""
    _find(api, full_name(repo_id))  # finds out in seconds if there is no Hub, as `whoami` does not
    about = api.whoami()
    role = ((about.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise UserError(
            'The token can only read. Make one with "write" permission at '
            f"{api.endpoint}/settings/tokens, then `hf auth login`."
        )
    owner, _, name = repo_id.rpartition("/")
    accounts = [about["name"], *(one["name"] for one in about.get("orgs") or [])]
    if owner and owner not in accounts:
        raise UserError(
            f"{repo_id} would belong to {owner}, and the token is {about['name']}'s: deploy to "
            f"{about['name']}/{name}."
        )
    return f"{owner or about['name']}/{name}"


def _find(api, repo_id: str):
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.space_info(repo_id, timeout=_REACH_SECONDS)
    except RepositoryNotFoundError:
        return None


def _model(api, name: str | None):
    from huggingface_hub import HfApi

    if name is None or name == _BUNDLED:
        return None
    return find_space_model(name, HfApi(token=False, endpoint=api.endpoint))


def _started_with(api, repo_id: str) -> str | None:
    variable = api.get_space_variables(repo_id).get(MODEL_VARIABLE)
    return variable.value if variable else None


def _create(api, order: SpaceOrder) -> None:
    hardware = order.hardware or ZERO_GPU
    _require_hardware(api, hardware)
    # With its hardware: without, a free account's Space is refused, as it would be on CPU Basic.
    api.create_repo(
        order.repo_id,
        repo_type="space",
        space_sdk="gradio",
        space_hardware=hardware,
        private=order.private,
        space_variables=_pairs(order.variables) or None,
        space_secrets=_pairs(order.secrets) or None,
    )


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _require_hardware(api, name: str) -> None:
    from huggingface_hub import SpaceHardware

    known = [one.value for one in SpaceHardware]
    if name in known:
        return
    known = list(dict.fromkeys([*known, *(one.name for one in api.list_spaces_hardware())]))
    if name not in known:  # newer than the client
        raise UserError(f"The Hub has no hardware {name!r}. It has {', '.join(known)}.")


def _require_ours(order: SpaceOrder, found) -> None:
    held = {file.rfilename for file in found.siblings or []} - {".gitattributes", "README.md"}
    if held and "gpt2/model.py" not in held and not order.overwrite:
        raise SpaceExists(f"{order.repo_id} exists already and holds another program.")


def _update(api, order: SpaceOrder, found, tell: Callable[[str], None]) -> None:
    """Bring the settings of a Space up to date: only what differs, as each change restarts it."""
    repo_id = order.repo_id
    if order.private and not found.private:
        api.update_repo_settings(repo_id, repo_type="space", private=True)
        tell("now private")
    runtime = found.runtime or api.get_space_runtime(repo_id)
    if order.hardware and order.hardware != (runtime.requested_hardware or runtime.hardware):
        _require_hardware(api, order.hardware)
        api.request_space_hardware(repo_id, order.hardware)
        tell(f"now on {order.hardware}")
    if order.variables:
        there = api.get_space_variables(repo_id)
        for key, value in order.variables.items():
            if key not in there or there[key].value != value:
                api.add_space_variable(repo_id, key, value)
                tell(f"set variable {key}")
    for key, value in order.secrets.items():  # the Hub tells nobody what they are
        api.add_space_secret(repo_id, key, value)
        tell(f"set secret {key}")
