"""From a finished run to a repository on the Hugging Face Hub, in the visitor's name.

The token lives as long as the call: it is in no state, no record and no log.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from gpt2.errors import UserError
from train.runs import Runs
from train.status import RunStatus
from train.verdict import verdict

_REPOSITORY = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}")
_SHOWN_SAMPLES = 3


def on_space() -> bool:
    return "SPACE_ID" in os.environ


def on_space_with_login() -> bool:
    """Whether visitors can sign in: elsewhere a login button would stop the page from starting."""
    return on_space() and "OAUTH_CLIENT_ID" in os.environ


def find_token(typed: object, oauth: str | None) -> str:
    """On a Space the visitor's own token; locally the typed one, else the saved one."""
    if on_space():
        if not oauth:
            raise UserError("Sign in with Hugging Face first, then push again.")
        return oauth
    if type(typed) is str and typed.strip():
        return typed.strip()
    from huggingface_hub import get_token

    if saved := get_token():
        return saved
    raise UserError("There is no token. Type one, or run `hf auth login` on this machine.")


def check_repository(name: object) -> str:
    """ "name" or "user/name" """
    text = name.strip() if type(name) is str else ""
    if not _REPOSITORY.fullmatch(text) or "--" in text or ".." in text or text.endswith(".git"):
        raise UserError(
            "Give the repository a name of letters, digits, dots, dashes: name or user/name."
        )
    return text


def publish(
    runs: Runs, run_id: str, step: int | None, base: str, name: str, token: str, private: bool
) -> str:
    """Push the run's model, or the checkpoint at `step`, with a card; returns its address."""
    from gpt2.publish import push

    status = runs.status(run_id)
    with tempfile.TemporaryDirectory(prefix="gpt2-push-") as aside:
        folder = Path(aside) / "model"
        shutil.copytree(runs.model_folder(run_id, step), folder)
        card = model_card(status, base, step)
        (folder / "README.md").write_text(card, encoding="utf-8")
        return push(folder, in_account(name, token), token, private=private)


def in_account(name: str, token: str) -> str:
    """ "user/name": a name alone is the token's owner's."""
    if "/" in name:
        return name
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        return (
            f"{HfApi(token=token, endpoint=os.environ.get('HF_ENDPOINT')).whoami()['name']}/{name}"
        )
    except (OSError, HTTPError):
        raise UserError(
            "The Hub did not say whose token that is. Check the token and your connection, or "
            "write the name as user/name."
        ) from None


def model_card(status: RunStatus, base: str, step: int | None = None) -> str:
    """What the run was, in facts; `base` is the Hub's name of the base model, or its title."""
    of_hub = f"base_model: {base}\n" if "/" in base else ""
    parts = [
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\n"
        f"{of_hub}tags:\n- gpt2\n---\n",
        f"# {base.rsplit('/', 1)[-1]}, fine-tuned\n",
        f"{base}, trained further on a text of {status.train_tokens:,} tokens for "
        f"{step if step is not None else status.best_step or status.step:,} steps, with a GPT-2 "
        "written from scratch.\n",
        _figures(status),
        _memorised(status),
        _samples(status),
        _config(status),
    ]
    return "\n".join(part for part in parts if part)


def _figures(status: RunStatus) -> str:
    if status.base_loss is None or status.best_loss is None:
        return ""
    return (
        "## Figures\n\n"
        f"Validation loss, nats a token, on {status.validation_tokens:,} tokens of the text that "
        "were not trained on:\n\n"
        "| | loss |\n|---|---|\n"
        f"| base model | {status.base_loss:.4f} |\n"
        f"| this model, step {status.best_step:,} | {status.best_loss:.4f} |\n\n{verdict(status)}\n"
    )


def _memorised(status: RunStatus) -> str:
    if status.memorisation is None:
        return ""
    found = status.memorisation
    return (
        "## Memorisation\n\n"
        f"{found.share_of_8_grams:.1%} of the runs of 8 tokens in its samples stand in the "
        f"training text; the longest such passage has {found.longest_characters:,} characters.\n"
    )


def _samples(status: RunStatus) -> str:
    if not status.samples:
        return ""
    prompt = (status.config or {}).get("sample_prompt", "")
    shown = [
        f"Step {sample.step:,}:\n\n" + _quoted(prompt + sample.text)
        for sample in status.samples[-_SHOWN_SAMPLES:]
    ]
    return "## Samples\n\n" + "\n\n".join(shown) + "\n"


def _config(status: RunStatus) -> str:
    rows = "".join(f"| {name} | {value} |\n" for name, value in (status.config or {}).items())
    return f"## Training\n\n| setting | value |\n|---|---|\n{rows}" if rows else ""


def _quoted(text: str) -> str:
    """As a literal block: a sample's own Markdown must not take effect."""
    return "\n".join(f"    {line}" for line in text.splitlines())
