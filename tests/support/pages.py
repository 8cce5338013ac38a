"""Looking at a page: what goes wrong on it unseen, and how well its text can be read."""

from __future__ import annotations

import re

from playwright.sync_api import ConsoleMessage, Page


def watch(page: Page, troubles: list[str]) -> Page:
    """Note every error of the console and of scripts, and every request to another host."""
    page.on("console", lambda m: is_trouble(m) and troubles.append(f"console: {m.text}"))
    page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
    page.on("request", lambda r: is_foreign(r.url) and troubles.append(f"request: {r.url}"))
    return page


def is_trouble(message: ConsoleMessage) -> bool:
    """An error; but gradio logs the stream that a reload cuts off as one."""
    return message.type == "error" and "BodyStreamBuffer was aborted" not in message.text


def is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def contrast(page: Page, selector: str) -> float:
    """WCAG's contrast of a text with the nearest opaque background behind it."""
    colors = page.locator(selector).first.evaluate(
        """element => {
          let behind = element, back = "rgba(0, 0, 0, 0)";
          while (back.endsWith(", 0)")) {
            behind = behind.parentElement;
            back = getComputedStyle(behind).backgroundColor;
          }
          return [getComputedStyle(element).color, back];
        }"""
    )
    light, dark = sorted(map(luminance, colors), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear))
