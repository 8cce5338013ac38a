"""The Advanced section: a control for each setting that a visitor may change, made from
`TrainConfig`'s own fields and help texts. An empty control leaves the preset's value as it is;
`RunOrder` judges what is in the others."""

from __future__ import annotations

from dataclasses import fields

import gradio as gr

from gpt2.errors import UserError
from service.request import ADVANCED
from train.config import TrainConfig

# Offered on the page, in this order; the API takes all of `ADVANCED`.
NAMES = (
    "steps",
    "learning_rate",
    "block_size",
    "batch_size",
    "micro_batch_size",
    "lora_rank",
    "warmup_steps",
    "schedule",
    "weight_decay",
    "gradient_clip",
    "dropout",
    "validation_share",
    "evaluate_every",
    "sample_every",
    "patience",
    "precision",
    "seed",
    "sample_prompt",
)
_OPTIONS = {option.name: option for option in fields(TrainConfig)}
_TITLES = {"lora_rank": "LoRA rank", "micro_batch_size": "Micro-batch size"}
_AS_PRESET = "As the preset"
Controls = dict[str, gr.components.Component]


def build_fields() -> Controls:
    """The controls by name, inside the open context; all empty."""
    assert set(NAMES) <= set(ADVANCED)
    return {name: _control(name) for name in NAMES}


def given(values: tuple[object, ...]) -> tuple[tuple[str, object], ...]:
    """The changes of an order: what stands in the controls that are not empty."""
    pairs = zip(NAMES, values, strict=True)
    return tuple((name, _parse(name, value)) for name, value in pairs if value not in (None, ""))


def _parse(name: str, value: object) -> object:
    """Numbers are typed as text, because gradio shows an empty number as 0."""
    kind = {"int": int, "float": float}.get(_OPTIONS[name].type)
    if kind is None or type(value) is not str:
        return value
    try:
        return kind(value.strip()[:40])
    except ValueError:
        raise UserError(f"{_title(name)} must be a number, not {value[:40]!r}.") from None


def show_values(controls: Controls, config: TrainConfig) -> dict:
    """Updates that show, in the empty controls, what the plan takes."""
    shown = {}
    for name, control in controls.items():
        value = getattr(config, name)
        if type(value) in (int, float):
            shown[control] = gr.Textbox(placeholder=f"{value:g}")
        elif isinstance(control, gr.Dropdown):
            shown[control] = gr.Dropdown(choices=_rows(name, value))
    return shown


def _control(name: str) -> gr.components.Component:
    option = _OPTIONS[name]
    words = {"label": _title(name), "info": _sentence(option.metadata["help"])}
    words |= {"elem_id": f"field-{name.replace('_', '-')}", "min_width": 140}
    if option.metadata["choices"]:
        return gr.Dropdown(choices=_rows(name), value="", filterable=False, **words)
    example = "Once upon a time" if option.type == "str" else f"{option.default:g}"
    return gr.Textbox("", max_lines=1, placeholder=example, **words)


def _rows(name: str, value: str | None = None) -> list[tuple[str, str]]:
    first = _AS_PRESET if value is None else f"{_AS_PRESET}: {value}"
    return [(first, ""), *((choice, choice) for choice in _OPTIONS[name].metadata["choices"])]


def _title(name: str) -> str:
    return _TITLES.get(name, name.replace("_", " ").capitalize())


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."
