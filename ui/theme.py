"""How the page looks: paper, ink and a green bookcloth, in light and in dark.

Only system fonts are used; nothing is downloaded. What the theme's variables cannot express is in
the .css files in assets/, and what the browser does on its own is in page.js.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes

_ASSETS = Path(__file__).with_name("assets")
STYLESHEETS = [_ASSETS / name for name in ("style.css", "finetune.css")]
SCRIPT = _ASSETS / "page.js"

SANS = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif'
MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace'

GREEN = colors.Color(
    c50="#eef5f1",
    c100="#d8e8df",
    c200="#b3d2c1",
    c300="#86b69c",
    c400="#5a9778",
    c500="#3a7b5b",
    c600="#2a6348",
    c700="#234f3b",
    c800="#1d3f30",
    c900="#183428",
    c950="#0c1d16",
    name="bookcloth",
)
PAPER = colors.Color(
    c50="#faf8f3",
    c100="#f3efe6",
    c200="#e6e0d3",
    c300="#d0c8b8",
    c400="#a39a89",
    c500="#736b5d",
    c600="#5a5347",
    c700="#433e35",
    c800="#2b2823",
    c900="#1e1c19",
    c950="#151412",
    name="paper",
)


def make_theme() -> gr.themes.Base:
    theme = gr.themes.Base(
        primary_hue=GREEN,
        secondary_hue=GREEN,
        neutral_hue=PAPER,
        radius_size=sizes.radius_md,
        spacing_size=sizes.spacing_lg,
        text_size=sizes.text_md,
    )
    theme.name = "bookcloth"
    theme.font, theme.font_mono = SANS, MONO
    return theme.set(**_SURFACES, **_BUTTONS, **_FIELDS)


_SURFACES = {
    "body_background_fill": "*neutral_50",
    "body_background_fill_dark": "*neutral_950",
    "body_text_color": "*neutral_900",
    "body_text_color_dark": "*neutral_100",
    "body_text_color_subdued": "*neutral_500",
    "body_text_color_subdued_dark": "*neutral_400",
    "background_fill_primary": "white",
    "background_fill_primary_dark": "*neutral_900",
    "background_fill_secondary": "*neutral_100",
    "background_fill_secondary_dark": "*neutral_800",
    "border_color_primary": "*neutral_200",
    "border_color_primary_dark": "*neutral_800",
    "border_color_accent": "*primary_500",
    "border_color_accent_dark": "*primary_400",
    "color_accent": "*primary_600",
    "color_accent_soft": "*primary_50",
    "color_accent_soft_dark": "*primary_900",
    "block_background_fill": "transparent",
    "block_background_fill_dark": "transparent",
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_padding": "0",
    "block_label_background_fill": "transparent",
    "block_label_background_fill_dark": "transparent",
    "block_title_text_color": "*neutral_800",
    "block_title_text_color_dark": "*neutral_200",
    "block_title_text_weight": "600",
    "block_title_text_size": "*text_md",
    "block_info_text_color": "*neutral_500",
    "block_info_text_color_dark": "*neutral_400",
    "block_info_text_size": "13px",
    "form_gap_width": "0px",
    "layout_gap": "20px",
    "link_text_color": "*primary_600",
    "link_text_color_dark": "*primary_300",
}
_BUTTONS = {
    "button_large_padding": "11px 22px",
    "button_large_text_size": "15px",
    "button_large_text_weight": "600",
    "button_small_padding": "6px 14px",
    "button_small_text_size": "14px",
    "button_small_text_weight": "500",
    "button_transition": "background-color 0.12s ease, border-color 0.12s ease",
    "button_border_width": "1px",
    "button_primary_background_fill": "*primary_600",
    "button_primary_background_fill_dark": "*primary_500",
    "button_primary_background_fill_hover": "*primary_700",
    "button_primary_background_fill_hover_dark": "*primary_600",
    "button_primary_border_color": "transparent",
    "button_primary_border_color_dark": "transparent",
    "button_primary_text_color": "white",
    "button_primary_text_color_dark": "white",
    "button_secondary_background_fill": "white",
    "button_secondary_background_fill_dark": "*neutral_900",
    "button_secondary_background_fill_hover": "*neutral_100",
    "button_secondary_background_fill_hover_dark": "*neutral_800",
    "button_secondary_border_color": "*neutral_300",
    "button_secondary_border_color_dark": "*neutral_700",
    "button_secondary_border_color_hover": "*neutral_400",
    "button_secondary_border_color_hover_dark": "*neutral_600",
    "button_secondary_text_color": "*neutral_800",
    "button_secondary_text_color_dark": "*neutral_100",
    "button_cancel_background_fill": "#9c3a2b",
    "button_cancel_background_fill_dark": "#9c3a2b",
    "button_cancel_background_fill_hover": "#812e21",
    "button_cancel_background_fill_hover_dark": "#812e21",
    "button_cancel_border_color": "transparent",
    "button_cancel_border_color_dark": "transparent",
    "button_cancel_text_color": "white",
    "button_cancel_text_color_dark": "white",
}
_FIELDS = {
    "input_background_fill": "white",
    "input_background_fill_dark": "*neutral_900",
    "input_border_color": "*neutral_300",
    "input_border_color_dark": "*neutral_700",
    "input_border_color_focus": "*primary_500",
    "input_border_color_focus_dark": "*primary_400",
    "input_border_width": "1px",
    "input_shadow": "none",
    "input_shadow_focus": "0 0 0 3px *primary_100",
    "input_shadow_focus_dark": "0 0 0 3px *primary_900",
    "input_padding": "10px 12px",
    "input_text_size": "15px",
    "input_placeholder_color": "*neutral_500",
    "input_placeholder_color_dark": "*neutral_400",
    "slider_color": "*primary_600",
    "slider_color_dark": "*primary_400",
    "checkbox_background_color_selected": "*primary_600",
    "checkbox_background_color_selected_dark": "*primary_500",
    "checkbox_border_color_selected": "*primary_600",
    "checkbox_border_color_focus": "*primary_500",
    "checkbox_label_padding": "6px 12px",
    "checkbox_label_background_fill": "white",
    "checkbox_label_background_fill_dark": "*neutral_900",
    "checkbox_label_background_fill_hover": "*neutral_100",
    "checkbox_label_background_fill_hover_dark": "*neutral_800",
    "checkbox_label_background_fill_selected": "*primary_50",
    "checkbox_label_background_fill_selected_dark": "*primary_900",
    "checkbox_label_border_color": "*neutral_300",
    "checkbox_label_border_color_dark": "*neutral_700",
    "checkbox_label_border_color_selected": "*primary_500",
    "checkbox_label_border_color_selected_dark": "*primary_400",
    "checkbox_label_text_color_selected": "*primary_700",
    "checkbox_label_text_color_selected_dark": "*primary_100",
    "loader_color": "*primary_500",
}
