"""The right side of the Fine-tune tab: the components of a run. Their content comes from
`run_html`, `samples_html` and `chart`."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from service.status import CheckpointInfo
from ui.finetune.publish import on_space, on_space_with_login
from ui.words import size

# What can be done with a run, and the words on its button.
ACTIONS = {
    "keep_best": "Stop and keep best",
    "keep_latest": "Stop and keep latest",
    "resume": "Resume",
    "discard": "Discard",
}
BLANK = "<p>Give it a text and press Start.<br>You can watch it learn here.</p>"


@dataclass(frozen=True)
class RunPanel:
    """The right side: the run."""

    blank: gr.HTML
    box: gr.Column
    head: gr.HTML
    chart: gr.HTML
    buttons: dict[str, gr.Button]
    discard_surely: gr.Button
    more_row: gr.Row
    more: gr.Number
    continue_: gr.Button
    notice: gr.HTML
    link: gr.HTML
    samples: gr.HTML
    after: gr.Column
    meter: gr.HTML
    checkpoint: gr.Radio
    try_it: gr.Button
    download: gr.Button
    file: gr.DownloadButton
    prompt: gr.Textbox
    compare: gr.Button
    compared: gr.HTML
    repository: gr.Textbox
    private: gr.Checkbox
    token: gr.Textbox
    push: gr.Button
    pushed: gr.HTML
    result: gr.HTML


def build_run_panel() -> RunPanel:
    with gr.Column(scale=7, min_width=320, elem_id="tune-page", elem_classes="sheet"):
        blank = gr.HTML(
            BLANK,
            elem_id="tune-blank",
            elem_classes="blank",
        )
        with gr.Column(visible=False, elem_id="run") as box:
            parts = _run_parts()
            with gr.Column(visible=False, elem_id="after") as after:
                parts |= _result_parts() | _compare_parts() | _push_parts()
            samples = gr.HTML("", elem_id="timeline")
    return RunPanel(blank=blank, box=box, samples=samples, after=after, **parts)


def _run_parts() -> dict:
    head = gr.HTML("", elem_id="run-head")
    chart = gr.HTML("", elem_id="run-chart")
    buttons = {}
    with gr.Row(visible=False, elem_id="more-row") as more_row:
        more = gr.Number(
            50,
            precision=0,
            minimum=1,
            label="More steps",
            info="Added after the last step.",
            elem_id="more",
        )
        continue_ = gr.Button("Continue training", size="sm", min_width=90, elem_id="go-on")
    with gr.Row(elem_id="run-actions", elem_classes="small-buttons"):
        for name, words in ACTIONS.items():
            buttons[name] = gr.Button(
                words, size="sm", visible=False, min_width=90, elem_id=name.replace("_", "-")
            )
        discard_surely = gr.Button(
            "Yes, discard this run",
            variant="stop",
            size="sm",
            visible=False,
            min_width=90,
            elem_id="discard-surely",
        )
    return {
        "head": head,
        "chart": chart,
        "buttons": buttons,
        "discard_surely": discard_surely,
        "more": more,
        "continue_": continue_,
        "more_row": more_row,
        "notice": gr.HTML("", elem_id="run-notice", elem_classes="status"),
        "link": gr.HTML("", elem_id="run-link"),
    }


def _result_parts() -> dict:
    gr.HTML("<h3>Keep it</h3>")
    checkpoint = gr.Radio(
        choices=[],
        label="Checkpoint",
        info="The model as saved at a step. A lower validation loss is better.",
        elem_id="checkpoint",
    )
    with gr.Row(elem_id="keep-actions", elem_classes="small-buttons"):
        try_it = gr.Button("Try in Write", size="sm", min_width=90, elem_id="try-it")
        download = gr.Button("Download", size="sm", min_width=90, elem_id="download")
    # Holds the zip; the browser saves it on its own when it is ready.
    file = gr.DownloadButton("Save the zip", visible="hidden", elem_id="zip")
    return {
        "checkpoint": checkpoint,
        "try_it": try_it,
        "download": download,
        "file": file,
        "result": gr.HTML("", elem_id="result", elem_classes="status"),
        "meter": gr.HTML("", elem_id="meter"),
    }


def _compare_parts() -> dict:
    gr.HTML("<h3>Before and after</h3>")
    prompt = gr.Textbox(
        label="Opening",
        info="Both models continue it with the same seed.",
        placeholder="Once upon a time",
        max_lines=2,
        elem_id="compare-prompt",
    )
    compare = gr.Button("Compare", size="sm", min_width=90, elem_id="compare")
    return {"prompt": prompt, "compare": compare, "compared": gr.HTML("", elem_id="compared")}


def _push_parts() -> dict:
    with gr.Accordion(
        "Publish on the Hugging Face Hub", open=False, elem_id="publish", elem_classes="fold"
    ):
        repository = gr.Textbox(
            label="Repository",
            info="user/name, or just a name for your own account. Created if it doesn't exist.",
            placeholder="my-storyteller",
            max_lines=1,
            elem_id="repository",
        )
        private = gr.Checkbox(
            True,
            label="Private",
            info="Only you can see it. A model that memorized your text can give it away.",
            elem_id="private",
        )
        if on_space_with_login():
            gr.LoginButton("Sign in with Hugging Face", size="sm", elem_id="login")
        token = gr.Textbox(
            label="Access token",
            info="Needs write access. Leave empty to use the one from `hf auth login`. Not stored.",
            type="password",
            max_lines=1,
            visible=not on_space(),
            elem_id="token",
        )
        push = gr.Button("Push", size="sm", min_width=90, elem_id="push")
        pushed = gr.HTML("", elem_id="pushed", elem_classes="status")
    return {
        "repository": repository,
        "private": private,
        "token": token,
        "push": push,
        "pushed": pushed,
    }


def checkpoint_rows(checkpoints: tuple[CheckpointInfo, ...]) -> list[tuple[str, int]]:
    """ "Step 120 · loss 3.42 · 21 MB · best", with the best first."""
    rows = sorted(checkpoints, key=lambda point: (not point.is_best, -point.step))
    return [(_checkpoint_words(point), point.step) for point in rows]


def _checkpoint_words(point: CheckpointInfo) -> str:
    words = [f"Step {point.step:,}"]
    if point.validation_loss is not None:
        words.append(f"loss {point.validation_loss:.2f}")
    words.append(size(point.bytes))
    return " · ".join(words + ["best"] * point.is_best)
