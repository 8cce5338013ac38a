"""The shape of a new model, where it is not its preset's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpt2.errors import UserError
from gpt2.folder import LIMITS
from gpt2.model import ModelConfig
from gpt2.settings import check, setting


def _size(of: str, help: str) -> int | None:
    return setting(None, help, low=1, high=LIMITS[of], asked="the preset's")


@dataclass(frozen=True)
class OwnShape:
    """What differs from a preset's shape; None is the preset's."""

    layers: int | None = _size("n_layer", "blocks, one after the other")
    heads: int | None = _size("n_head", "attention heads; they share the width equally")
    width: int | None = _size("n_embd", "numbers per token between the blocks")
    context: int | None = _size(
        "n_positions", "tokens that the model reads at most; block_size follows if not given"
    )
    untied: bool = setting(False, "an output matrix apart from the token embedding")
    qkv_bias: bool = setting(
        True, "off: no biases on queries, keys and values", flag="--no-qkv-bias"
    )

    def __post_init__(self) -> None:
        check(self)

    def of(self, preset: ModelConfig) -> ModelConfig:
        """The preset's shape with what differs. `UserError` for one that cannot be."""
        sizes = {
            "n_layer": self.layers,
            "n_head": self.heads,
            "n_embd": self.width,
            "n_positions": self.context,
        }
        given = {name: size for name, size in sizes.items() if size is not None}
        width, heads = given.get("n_embd", preset.n_embd), given.get("n_head", preset.n_head)
        if width % heads:
            raise UserError(
                f"A width of {width} cannot be shared by {heads} heads: choose a multiple of "
                f"{heads} with --width, or other --heads."
            )
        tied = preset.tie_word_embeddings and not self.untied
        biases = preset.qkv_bias and self.qkv_bias
        return replace(preset, **given, tie_word_embeddings=tied, qkv_bias=biases)
