"""The left side of the Fine-tune tab: components of the text, the plan and the visitor's runs."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from gpt2.text import CHOICES
from service.limits import Limits
from service.request import EFFORTS
from service.text_summary import SUFFIXES
from ui.finetune.controls import TrainingControls, build_fields
from ui.words import about, size


@dataclass(frozen=True)
class Form:
    """The left side: what to learn from, and how."""

    text: gr.Textbox
    upload: gr.UploadButton
    sample: gr.Button
    clear: gr.Button
    column: gr.Dropdown
    encoding: gr.Dropdown
    card: gr.HTML
    preset: gr.Radio
    feasible: gr.HTML
    start: gr.Button
    status: gr.HTML
    fields: TrainingControls
    mine: gr.Dropdown
    forget: gr.Button
    forget_surely: gr.Button


def build_form(limits: Limits) -> Form:
    with gr.Column(scale=5, min_width=320, elem_id="tune-desk", elem_classes="desk"):
        parts = _text_parts(limits) | _plan_parts() | _own_parts()
    return Form(**parts)


def _text_parts(limits: Limits) -> dict:
    text = gr.Textbox(
        label="Text",
        info="The text to learn from. Paste it or upload a file.",
        placeholder="Your diary, your songs, your favorite author…",
        lines=6,
        max_lines=12,
        elem_id="tune-text",
    )
    with gr.Row(elem_id="sources"):
        upload = gr.UploadButton(
            "Upload a file", file_types=list(SUFFIXES), size="sm", min_width=110, elem_id="upload"
        )
        sample = gr.Button("Use the sample text", size="sm", min_width=110, elem_id="use-sample")
        clear = gr.Button("Clear", size="sm", min_width=70, visible=False, elem_id="clear-text")
    column = gr.Dropdown(
        choices=[],
        label="Column",
        info="Which column of the table holds the text.",
        visible=False,
        filterable=False,
        interactive=True,
        elem_id="column",
    )
    encoding = gr.Dropdown(
        choices=[("As found", ""), *((name, name) for name in CHOICES)],
        value="",
        label="Encoding",
        info="The file is not UTF-8. If letters look wrong, choose what it is.",
        visible=False,
        filterable=True,
        interactive=True,
        elem_id="encoding",
    )
    card = gr.HTML(
        file_hint(limits),
        elem_id="text-card",
    )
    return {
        "text": text,
        "upload": upload,
        "sample": sample,
        "clear": clear,
        "column": column,
        "encoding": encoding,
        "card": card,
    }


def _plan_parts() -> dict:
    preset = gr.Radio(
        preset_rows(),
        value="taste",
        label="How thoroughly",
        info="More steps take longer and fit the text more closely.",
        elem_id="preset",
        elem_classes="chips",
    )
    feasible = gr.HTML("", elem_id="feasible")
    start = gr.Button("Start", variant="primary", elem_id="start")
    status = gr.HTML('<p class="hint">The model picked above learns.</p>', elem_id="tune-status")
    with gr.Accordion("Advanced", open=False, elem_id="advanced", elem_classes="fold"):
        gr.HTML('<p class="hint">Empty fields are as the preset has them.</p>')
        with gr.Row(elem_id="fields"):
            fields = build_fields()
    return {
        "preset": preset,
        "feasible": feasible,
        "start": start,
        "status": status,
        "fields": fields,
    }


def _own_parts() -> dict:
    with gr.Accordion("My runs and data", open=False, elem_id="own", elem_classes="fold"):
        mine = gr.Dropdown(
            choices=[],
            label="My runs",
            info="Those that this browser has started. Nobody else sees this list.",
            filterable=False,
            interactive=True,
            elem_id="mine",
        )
        with gr.Row(elem_id="forgetting"):
            forget = gr.Button("Delete my data", size="sm", elem_id="forget")
            surely = gr.Button(
                "Yes, delete all my runs and models",
                variant="stop",
                size="sm",
                visible=False,
                elem_id="forget-surely",
            )
    return {"mine": mine, "forget": forget, "forget_surely": surely}


def file_hint(limits: Limits) -> str:
    kinds, most = " ".join(SUFFIXES), size(limits.text_bytes)
    return f'<p class="hint">{kinds}, up to {most}. Deleted once it has been read.</p>'


def preset_rows(seconds: dict[str, float] | None = None) -> list[tuple[str, str]]:
    """The presets as choices, with the time that each takes where it is known."""
    known = seconds or {}
    rows = []
    for name in EFFORTS:
        time = about(known[name]).removeprefix("about ") if name in known else ""
        rows.append((" · ".join(filter(None, (name.capitalize(), time))), name))
    return rows
