"""The generation controls, made from `Sampling`, and the styles that set several at once."""

from __future__ import annotations

import json
from dataclasses import asdict

import gradio as gr

from gpt2.sampling import Sampling
from gpt2.settings import TEXTS, Setting
from ui.generation import SETTINGS

CUSTOM = "Custom"
# The penalties keep a small model from repeating itself; the cooler the style, the more it needs.
STYLES = {
    "Precise": Sampling(temperature=0.4, top_k=20, top_p=0.9, repetition_penalty=1.3),
    "Balanced": Sampling(),
    "Wild": Sampling(temperature=1.0, top_k=0),
    "Greedy": Sampling(temperature=0.0, top_k=0, top_p=1.0, repetition_penalty=1.4),
}
# What a style leaves alone; it sets everything else.
_UNSTYLED = {"max_new_tokens", "seed", "samples", "stop", "stop_at_end_of_text"}
STYLED = tuple(one.name for one in SETTINGS if one.name not in _UNSTYLED)
GenerationControls = dict[str, gr.components.Component]  # by setting name, in order


def build_controls() -> GenerationControls:
    """A control for each setting, inside the open context: the length first, then what a style
    sets. They start at the defaults, which are those of the Balanced style."""
    first = ("max_new_tokens", *STYLED)
    made = {one.name: _control(one) for one in sorted(SETTINGS, key=lambda s: s.name not in first)}
    return {one.name: made[one.name] for one in SETTINGS}


def _control(one: Setting) -> gr.components.Component:
    words = {"label": one.words, "info": one.sentence}
    if one.slider:
        low, high, step = one.slider
        return gr.Slider(low, high, one.start, step=step, **words)
    if one.kind == "bool":
        return gr.Checkbox(one.start, **words)
    if one.kind == TEXTS:
        words["info"] += r" Several: one per line. \n stands for a line break."
        return gr.Textbox(one.start, lines=2, max_lines=4, **words)
    if one.kind == "str":
        return gr.Textbox(one.start, max_lines=1, **words)
    return gr.Number(one.start, precision=0, **words)


def typed_settings(values: tuple[object, ...]) -> dict[str, object]:
    """The values of the controls, in the order of the settings, by name, as `Sampling` takes
    them: what a person typed is read as such, and judged by nobody yet."""
    return {
        one.name: one.from_lines(value) if one.kind == TEXTS else value
        for one, value in zip(SETTINGS, values, strict=True)
    }


def style_script() -> str:
    """In the browser: a style's values, or for Custom the current ones."""
    styles = {
        name: [asdict(style)[setting] for setting in STYLED] for name, style in STYLES.items()
    }
    return f"(name, ...values) => ({json.dumps(styles)})[name] ?? values"
