"""The Advanced section: a control for each `TrainConfig` setting that is offered on the page.
An empty control keeps the preset's value; `RunRequest` checks what is in the others."""

from __future__ import annotations

import gradio as gr

from gpt2.settings import Setting, settings_of
from train.config import TrainConfig

PAGE_SETTINGS = tuple(one for one in settings_of(TrainConfig) if one.on_page)
_AS_PRESET = "From the preset"
TrainingControls = dict[str, gr.components.Component]


def build_fields() -> TrainingControls:
    """The controls by name, inside the open context; all empty."""
    return {one.name: _control(one) for one in PAGE_SETTINGS}


def changes_of(values: tuple[object, ...]) -> tuple[tuple[str, object], ...]:
    """The changes for a request: the values of the controls that are not empty."""
    pairs = zip(PAGE_SETTINGS, values, strict=True)
    # Numbers are typed as text, because gradio shows an empty number as 0.
    return tuple(
        (one.name, one.from_text(value) if type(value) is str else value)
        for one, value in pairs
        if value not in (None, "")
    )


def show_values(controls: TrainingControls, config: TrainConfig) -> dict:
    """Updates that show the plan's values in the empty controls."""
    shown = {}
    for one in PAGE_SETTINGS:
        value, control = getattr(config, one.name), controls[one.name]
        if one.kind in ("int", "float"):
            shown[control] = gr.Textbox(placeholder=f"{value:g}")
        elif one.choices:
            shown[control] = gr.Dropdown(choices=_rows(one, value))
    return shown


def _control(one: Setting) -> gr.components.Component:
    words = {"label": one.words, "info": one.sentence}
    words |= {"elem_id": f"field-{one.name.replace('_', '-')}", "min_width": 140}
    if one.choices:
        return gr.Dropdown(choices=_rows(one), value="", filterable=False, **words)
    example = "Once upon a time" if one.kind == "str" else f"{one.default:g}"
    return gr.Textbox("", max_lines=1, placeholder=example, **words)


def _rows(one: Setting, value: str | None = None) -> list[tuple[str, str]]:
    first = _AS_PRESET if value is None else f"{_AS_PRESET}: {value}"
    return [(first, ""), *((choice, choice) for choice in one.choices)]
