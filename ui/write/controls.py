"""The controls of generation and the styles that set several of them at once."""

from __future__ import annotations

import json
from dataclasses import dataclass

import gradio as gr

from ui.generation import MAX_NEW_TOKENS, MAX_SAMPLES

CUSTOM = "Custom"
# What a style sets: temperature, top-k, top-p, repetition penalty. The penalties keep a small model
# from going in circles: the cooler the style, the more it needs.
STYLES = {
    "Precise": (0.4, 20, 0.9, 1.25),
    "Balanced": (0.8, 40, 0.95, 1.1),
    "Wild": (1, 0, 0.95, 1.1),
    "Greedy": (0, 0, 1, 1.3),
}


@dataclass(frozen=True)
class Settings:
    """The controls, in the order in which handlers receive their values."""

    max_new_tokens: gr.Slider
    temperature: gr.Slider
    top_k: gr.Slider
    top_p: gr.Slider
    repetition_penalty: gr.Slider
    seed: gr.Number
    samples: gr.Slider
    stop: gr.Textbox
    stop_at_end_of_text: gr.Checkbox

    @property
    def style(self) -> list[gr.Slider]:
        return [self.temperature, self.top_k, self.top_p, self.repetition_penalty]


def build_settings() -> Settings:
    """The controls inside the open context, at the values of the Balanced style."""
    temperature, top_k, top_p, penalty = STYLES["Balanced"]
    return Settings(
        max_new_tokens=gr.Slider(
            1,
            MAX_NEW_TOKENS,
            100,
            step=1,
            label="Length",
            info="The most new tokens, for each text.",
        ),
        temperature=gr.Slider(
            0,
            2,
            temperature,
            step=0.05,
            label="Temperature",
            info="0 always takes the likeliest token; higher is bolder.",
        ),
        top_k=gr.Slider(
            0, 200, top_k, step=1, label="Top-k", info="Draw from the k likeliest tokens. 0 = off."
        ),
        top_p=gr.Slider(
            0.01,
            1,
            top_p,
            step=0.01,
            label="Top-p",
            info="Draw from the likeliest tokens that share this probability. 1 = off.",
        ),
        repetition_penalty=gr.Slider(
            1,
            2,
            penalty,
            step=0.05,
            label="Repetition penalty",
            info="Makes tokens that were there before less likely. 1 = off.",
        ),
        seed=gr.Number(
            -1, precision=0, label="Seed", info="The same seed gives the same text. -1 = random."
        ),
        samples=gr.Slider(
            1, MAX_SAMPLES, 1, step=1, label="Samples", info="How many texts to write at once."
        ),
        stop=gr.Textbox("", max_lines=1, label="Stop text", info="Writing ends before this text."),
        stop_at_end_of_text=gr.Checkbox(
            True,
            label="Stop at the end of the text",
            info="Off: write on after the model's own end.",
        ),
    )


def style_script() -> str:
    """In the browser: a style's values, or the present ones for Custom."""
    return f"(name, ...values) => ({json.dumps(STYLES)})[name] ?? values"
