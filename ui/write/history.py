"""What the Write tab remembers: the steps of a text, as plain values.

A step is one press of Generate, Continue or Retry. The page shows the last one; Undo drops it.
"""

from __future__ import annotations

from ui.generation import Step

MAX_STEPS = 30  # a visitor's memory on the server is bounded
Steps = tuple[Step, ...]


def add_step(steps: Steps, step: Step) -> Steps:
    return (*steps, step)[-MAX_STEPS:]
