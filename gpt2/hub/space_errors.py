"""What goes wrong with a Space, in plain words: the Hub's refusals, and its builds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gpt2.errors import UserError
from gpt2.hub.errors import translate_hub_errors

ZERO_GPU = "zero-a10g"


@contextmanager
def translate_space_errors(repository: str) -> Iterator[None]:
    """Like `translate_hub_errors`, and the answers that only Spaces get."""
    from huggingface_hub.errors import HfHubHTTPError

    with translate_hub_errors(repository):
        try:
            yield
        except HfHubHTTPError as error:
            if words := _explain_refusal(error, repository):
                raise UserError(words) from None
            raise


def _explain_refusal(error, repository: str) -> str:
    status = error.response.status_code
    told = _server_words(error)
    if status == 402:
        return (
            f"The Hub asks to pay for this hardware ({told}) A free account has Gradio Spaces on "
            f"ZeroGPU only: deploy with --hardware {ZERO_GPU}. Other hardware needs a PRO or Team "
            "subscription, or a payment method at https://huggingface.co/settings/billing."
        )
    if status in (400, 403, 429) and "zero" in told.lower():
        return (
            f"The Hub gives no further Space on ZeroGPU ({told}) A free account has two, once its "
            "email is verified and it is 30 days old: delete one, or deploy onto it by its name."
        )
    if status == 409:
        return f"The name {repository} is taken. Choose another one."
    if status == 400:
        return f"The Hub does not accept this Space: {told}"
    return ""


def _server_words(error) -> str:
    """The Hub's own sentence, on one line."""
    text = error.server_message or str(error)
    words = " ".join(text.split())[:300].rstrip(".")
    return f"{words}."


def stage_words(stage: str) -> str:
    """ "app starting" of the Hub's APP_STARTING"""
    return stage.lower().replace("_", " ")


def explain_stage(repository: str, stage: str, message: str, page: str) -> str:
    """Why a Space that has stopped short of running did so. `message` is the Hub's."""
    told = f" ({' '.join(message.split())[:300]})" if message else ""
    advice = {
        "BUILD_ERROR": "could not be built. The end of its log is above: mend what it names",
        "RUNTIME_ERROR": "was built but ended. The end of its log is above: mend what it names",
        "CONFIG_ERROR": "has a front matter that the Hub cannot use: mend it in README.md",
        "NO_APP_FILE": "has no app.py: something else was pushed to it meanwhile",
    }
    if stage in advice:
        return f"{repository} {advice[stage]}, then deploy again{told}."
    return (
        f"{repository} does not run: it is {stage_words(stage)}{told}. Start it again "
        f"in its settings, {page}/settings."
    )
