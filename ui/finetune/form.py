"""The left side of the Fine-tune tab: components of the text, the plan and the visitor's runs."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from service.request import SUFFIXES, Limits
from ui.finetune.controls import Controls, build_fields
from ui.words import about, size

PRESETS = {"taste": "Taste", "good": "Good", "thorough": "Thorough"}


@dataclass(frozen=True)
class Desk:
    """The left side: what to learn from, and how."""

    text: gr.Textbox
    upload: gr.UploadButton
    sample: gr.Button
    clear: gr.Button
    column: gr.Dropdown
    card: gr.HTML
    preset: gr.Radio
    feasible: gr.HTML
    start: gr.Button
    status: gr.HTML
    fields: Controls
    mine: gr.Dropdown
    forget: gr.Button
    forget_surely: gr.Button


def build_desk(limits: Limits) -> Desk:
    with gr.Column(scale=5, min_width=320, elem_id="tune-desk", elem_classes="desk"):
        parts = _text_parts(limits) | _plan_parts() | _own_parts()
    return Desk(**parts)


def _text_parts(limits: Limits) -> dict:
    text = gr.Textbox(
        label="Text",
        info="What the model shall learn to write like. Paste it, or give a file.",
        placeholder="Your diary, your songs, your favourite author…",
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
    return [
        (f"{words} · {about(known[name]).removeprefix('about ')}" if name in known else words, name)
        for name, words in PRESETS.items()
    ]
