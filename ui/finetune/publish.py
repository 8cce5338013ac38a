"""From a finished run to a repository on the Hugging Face Hub, in the visitor's name.

The token lives only as long as the call: it is never kept in state, records or logs.
"""

from __future__ import annotations

import math
import os
import shutil

import gradio as gr

from gpt2.errors import UserError
from gpt2.hub.names import full_name, is_repository
from gpt2.hub.transfer import push
from gpt2.model_card import CardFacts, CardSample, Losses, write_card
from gpt2.temporary import Temporary, temp_folder
from service.runs import Runs
from service.status import RunStatus
from service.verdict import verdict
from ui.front_door import is_loopback, name_of
from ui.messages import log

_SHOWN_SAMPLES = 3


def on_space() -> bool:
    return "SPACE_ID" in os.environ


def on_space_with_login() -> bool:
    """Whether visitors can sign in; elsewhere a login button would keep the page from starting."""
    return on_space() and "OAUTH_CLIENT_ID" in os.environ


def find_token(typed: object, oauth: str | None, is_owner: bool) -> str:
    """On a Space, the visitor's own token; elsewhere the typed one, else the saved one, which only
    the machine's owner may use: the person sitting at it."""
    if on_space():
        if not oauth:
            raise UserError("Sign in with Hugging Face first, then push again.")
        return oauth
    if type(typed) is str and typed.strip():
        return typed.strip()
    from huggingface_hub import get_token

    if is_owner and (saved := get_token()):
        return saved
    raise UserError("There is no access token. Enter one, or run `hf auth login` on this machine.")


def is_owner(request: gr.Request) -> bool:
    """Whether a request comes from this machine, by one of this machine's own names."""
    client = request.client.host if request.client else ""
    forwarded = any(name in request.headers for name in ("x-forwarded-for", "forwarded"))
    here = is_loopback(client) and is_loopback(name_of(request.headers.get("host", "")))
    return here and not forwarded


def check_repository(name: object) -> str:
    """ "name" or "user/name" """
    text = name.strip() if type(name) is str else ""
    if not is_repository(full_name(text)) or text.endswith(".git"):
        raise UserError(
            "Name the repository with letters, digits, dots and dashes: name or user/name."
        )
    return text


def publish(
    runs: Runs, run_id: str, step: int | None, base: str, name: str, token: str, private: bool
) -> str:
    """Push the run's model, or the checkpoint at `step`, with a card; returns its address."""
    facts = card_facts(runs.status(run_id), base, step)
    with temp_folder(Temporary.PUSH) as aside:
        folder = aside / "model"
        shutil.copytree(runs.model_folder(run_id, step), folder)
        write_card(folder, facts)
        try:
            return push(folder, in_account(name, token), token, private=private)
        except UserError:
            raise
        except Exception as error:
            kind = type(error).__name__  # not its text: a network error may quote the token
            log.error("publishing failed: %s", kind)
            raise UserError(f"Publishing failed ({kind}). Nothing else changed.") from None


def in_account(name: str, token: str) -> str:
    """ "user/name"; a name alone belongs to the token's owner."""
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
            "The Hub did not say who owns this token. Check the token and your connection, or "
            "enter the name as user/name."
        ) from None


def card_facts(status: RunStatus, base: str, step: int | None = None) -> CardFacts:
    """What the run was; `base` is the base model's name on the Hub, or its title."""
    trained = step if step is not None else status.best_step or status.step
    config = status.config or {}
    prompt = config.get("sample_prompt", "")
    return CardFacts(
        title=f"{base.rsplit('/', 1)[-1]}, fine-tuned",
        base_model=base if "/" in base else None,
        tags=("fine-tuned",),
        description=f"{base}, fine-tuned for {trained:,} steps. {verdict(status)}",
        data=f"A text of {status.train_tokens:,} tokens, which is not named here.",
        training=config,
        losses=_losses(status, trained),
        samples=[CardSample(prompt, sample.text) for sample in status.samples[-_SHOWN_SAMPLES:]],
        memorization=_memorized(status),
    )


def _losses(status: RunStatus, step: int) -> Losses | None:
    measured = {p.step: p.validation_loss for p in status.progress}
    loss = status.best_loss if step == status.best_step else measured.get(step)
    if loss is None:
        return None
    base = f" (the base model's loss on it is {status.base_loss:.4f})" if status.base_loss else ""
    held_out = f"{status.validation_tokens:,} held-out tokens of the same text"
    return Losses(held_out + base, loss, math.exp(min(loss, 700)))


def _memorized(status: RunStatus) -> str:
    if status.memorization is None:
        return ""
    found = status.memorization
    return (
        f"{found.share_of_8_grams:.1%} of the runs of 8 tokens in its samples appear in the "
        f"training text; the longest such passage has {found.longest_characters:,} characters."
    )
