"""What the Write tab remembers: the steps of a text, as plain values.

A step is one press of Generate, Continue or Retry. The page shows the last one; Undo drops it.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_STEPS = 30  # a visitor's memory on the server is bounded
Steps = tuple["Step", ...]


@dataclass(frozen=True)
class Step:
    """`prompt + kept` was given to the model, which wrote `texts` (one a sample)."""

    prompt: str
    kept: str = ""  # written by the model in earlier steps, in the sample that was continued
    texts: tuple[str, ...] = ("",)
    tokens: int = 0  # of all samples
    seconds: float = 0.0
    seed: int = 0
    endings: tuple[str | None, ...] = ()  # why each sample stopped

    @property
    def basis(self) -> str:
        return self.prompt + self.kept

    def passage(self, sample: int) -> str:
        """Everything that the model wrote in one sample, all steps together."""
        return self.kept + self.texts[sample]

    def summary(self, stopped: bool = False) -> str:
        """ "87 tokens, 41 tok/s, seed 1234, stopped: end of text" """
        speed = self.tokens / self.seconds if self.seconds else 0.0
        words = [f"{self.tokens:,} token{'' if self.tokens == 1 else 's'}"]
        words.append(f"{speed:.0f} tok/s" if speed >= 10 else f"{speed:.1f} tok/s")
        words.append(f"seed {self.seed}")
        if stopped:
            words.append("stopped: by you")
        elif self.endings and all(self.endings):
            words.append("stopped: " + ", ".join(dict.fromkeys(self.endings)))
        return ", ".join(words)


def push(steps: Steps, step: Step) -> Steps:
    return (*steps, step)[-MAX_STEPS:]
