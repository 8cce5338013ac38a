"""What a run's model writes, as HTML: the timeline, before and after, the memorization meter.

A passage that appears word for word in the training text is marked by an underline and a title,
not by color alone.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

from train.memorization import Memorization
from train.run_folder import Sample

_SHOWN_PROMPT = 160  # characters
Spans = list[tuple[str, bool]]  # (text, whether it appears in the training text)


def timeline(samples: Sequence[Sample], prompt: str, spans_of: Callable[[str], Spans]) -> str:
    """The samples for the run's fixed prompt and seed, from step 0 on."""
    if not samples:
        return ""
    items = "".join(
        f'<li><span class="step">{"Before" if sample.step == 0 else f"Step {sample.step:,}"}</span>'
        f"<p>{_passage(_end_of(prompt), spans_of(sample.text))}</p></li>"
        for sample in samples
    )
    return (
        '<h3>Watch it learn</h3><p class="hint">The same prompt and the same seed each time. '
        "<mark>Underlined</mark> passages appear word for word in your text.</p>"
        f'<ol class="timeline">{items}</ol>'
    )


def comparison(
    prompt: str, base: str, tuned: Spans, base_title: str, tuned_title: str, seed: int
) -> str:
    """Two columns: the base model and the tuned one with the same prompt and seed."""
    left, right = _passage(prompt, [(base, False)]), _passage(prompt, tuned)
    return (
        f'<div class="pair"><section><h4>{html.escape(base_title)}</h4><p>{left}</p></section>'
        f"<section><h4>{html.escape(tuned_title)}</h4><p>{right}</p></section></div>"
        f'<p class="hint">Both with seed {seed}.</p>'
    )


def meter(found: Memorization | None) -> str:
    """How much of the result's samples appears word for word in the training text."""
    if found is None:
        return ""
    share = 100 * found.share_of_8_grams
    longest = "No passage of 8 or more tokens appears in your text."
    if found.longest:
        words = " ".join(found.longest.split())
        longest = (
            f"The longest passage it repeats has {found.longest_characters:,} characters: "
            f"“{words[:160]}{'…' if len(words) > 160 else ''}”"
        )
    return (
        '<div class="meter"><h4>Memorized</h4>'
        f'<div class="bar" role="meter" aria-label="Share of 8-token runs found in the text" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share:.0f}">'
        f'<i style="width:{share:.1f}%"></i></div>'
        f"<p><b>{share:.0f}%</b> of what it writes, in runs of 8 tokens, appears in your text. "
        f"{html.escape(longest)}</p></div>"
    )


def _passage(prompt: str, spans: Spans) -> str:
    opening = f'<span class="prompt">{_compact(prompt)}</span>' if prompt else ""
    return opening + "".join(
        f'<mark title="Word for word in the training text">{_compact(text)}</mark>'
        if found
        else _compact(text)
        for text, found in spans
    )


def _end_of(prompt: str) -> str:
    """It stands before every sample, so only so much of it."""
    return prompt if len(prompt) <= _SHOWN_PROMPT else f"… {prompt[-_SHOWN_PROMPT:]}"


def _compact(text: str) -> str:
    """Escaped, without blank lines: many samples are listed one below another."""
    return html.escape(re.sub(r"\n\s*\n", "\n", text))
