"""Numbers in words that people use."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """ "12 s", "8m40s", "3h05m" """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def about(seconds: float) -> str:
    """Like `duration`, but only as exact as an estimate: "about 40 s", "about 3 min"."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {round(seconds / 10) * 10} s"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes: "640 kB", "21 MB", "1.5 GB" """
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            value = count / factor
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{count / 1e3:.0f} kB"


def ago(seconds: float) -> str:
    if seconds < 90:
        return "just now"
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def rate(seconds: float) -> str:
    """The time per step: "0.42 s/step", "1.9 s/step", "12 s/step" """
    return f"{seconds:.2g} s/step" if seconds < 10 else f"{seconds:.0f} s/step"
