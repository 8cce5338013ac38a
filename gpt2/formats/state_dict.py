"""A state dict of any GPT-2 in PyTorch, as a model folder's tensors: by names, then by shapes.

Shapes say what names do not: whether matrices are stored (in, out) as OpenAI's or (out, in) as
`nn.Linear`'s, and the numbers of a `ModelConfig` but one, n_head. Separate matrices of queries,
keys and values are joined; biases that a model does not have become zeros, which is exact.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gpt2.errors import UserError
from gpt2.folder import LIMITS, empty_model, is_finite
from gpt2.formats.foreign_model import bounded_config
from gpt2.formats.pickles import require_stored_type
from gpt2.formats.state_dict_names import other_architecture, our_name
from gpt2.model import SIZES, ModelConfig

_PARTS = ("query", "key", "value")


class StateDict:
    """Tensors by our names, of the shapes that `config` asks for. `UserError` names what is
    missing, unknown, there twice or misshapen."""

    def __init__(
        self,
        place: object,
        tensors: Mapping[str, Tensor],
        heads: int | None,
        **fields: object,
    ) -> None:
        """`place` is how errors call the source; `fields` are those of a `ModelConfig` that no
        tensor's shape shows, and `heads` is n_head, None where it is not known."""
        self._place = place
        self._tensors = _rename(place, tensors)
        self._require("wte.weight", "wpe.weight", "h.0.mlp.c_fc.weight", "ln_f.weight")
        self._is_transposed = self._find_order()
        self._tied = self._is_tied()
        self.config = self._read_shape(heads, fields)
        self._check_shapes()

    def read(self, name: str) -> Tensor:
        """A tensor of `GPT2(self.config)`."""
        if name.endswith("attn.c_attn.weight") and name not in self._tensors:
            joined = torch.cat([self._matrix(part) for part in _parts_of(name)], dim=1)
        elif name.endswith("attn.c_attn.bias") and name not in self._tensors:
            joined = torch.cat([self._vector(part) for part in _parts_of(name)])
        elif name.endswith("bias"):
            joined = self._vector(name)
        elif _is_matrix(name):
            joined = self._matrix(name)
        else:
            joined = self._tensors[name]
        joined = joined.contiguous()
        if not is_finite(joined):
            raise UserError(f"{self._place}: {name} holds values that are not finite.")
        return joined

    def _matrix(self, name: str) -> Tensor:
        matrix = self._tensors[name]
        return matrix.t() if self._is_transposed else matrix

    def _vector(self, name: str) -> Tensor:
        if name in self._tensors:
            return self._tensors[name]
        config = self.config
        width = {"c_attn": 3 * config.n_embd, "c_fc": config.mlp_width}
        length = width.get(name.split(".")[-2], config.n_embd)
        return torch.zeros(length, dtype=self._tensors["wte.weight"].dtype)

    def _require(self, *names: str) -> None:
        for name in names:
            if name not in self._tensors:
                about = (
                    " Without a table of positions it is another architecture: rotary positions "
                    "or ALiBi."
                    if name == "wpe.weight"
                    else ""
                )
                raise UserError(f"{self._place}: the tensor {name} is missing.{about}")

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape) if name in self._tensors else ()

    def _find_order(self) -> bool:
        """Whether matrices are stored (out, in)."""
        width = self._shape("wte.weight")[-1:]
        for name in ("h.0.attn.c_attn.weight", "h.0.mlp.c_fc.weight"):
            shape = self._shape(name)
            if len(shape) == 2 and shape[0] != shape[1]:
                return shape[1:] == width
        return True  # all are square: nn.Linear's order

    def _is_tied(self) -> bool:
        head, embedding = self._tensors.get("lm_head.weight"), self._tensors["wte.weight"]
        return head is None or (head.shape == embedding.shape and torch.equal(head, embedding))

    def _read_shape(self, heads: int | None, fields: dict[str, object]) -> ModelConfig:
        shapes = [self._shape(name) for name in ("wte.weight", "wpe.weight", "h.0.mlp.c_fc.weight")]
        if any(len(shape) != 2 for shape in shapes):
            raise UserError(f"{self._place}: an embedding or matrix has not two dimensions.")
        (vocab_size, n_embd), (n_positions, _), up = shapes
        layers = 1 + max(int(name.split(".")[1]) for name in self._tensors if name[:2] == "h.")
        inner = up[0] if self._is_transposed else up[1]
        sizes = (one for one in SIZES.values() if (one.n_layer, one.n_embd) == (layers, n_embd))
        known = heads or next((one.n_head for one in sizes), None)
        if known is None:
            raise UserError(
                f"{self._place}: nothing says how many heads the attention has, and no shape shows "
                f"it. Give --heads, a divisor of {n_embd}."
            )
        return bounded_config(
            self._place,
            vocab_size=vocab_size,
            n_positions=n_positions,
            n_embd=n_embd,
            n_layer=layers,
            n_head=known,
            n_inner=None if inner == 4 * n_embd else inner,
            tie_word_embeddings=self._tied,
            **fields,
        )

    def _check_shapes(self) -> None:
        """Every tensor that the model has is there, in its shape, and no other."""
        wanted = state_shapes(self.config)
        expected: dict[str, tuple[int, ...]] = {}
        for name, shape in wanted.items():
            if ".attn.c_attn." in name and name not in self._tensors:
                shape = (*shape[:-1], self.config.n_embd)
                expected |= dict.fromkeys(_parts_of(name), shape)
            else:
                expected[name] = shape
        for name, shape in expected.items():
            stored = shape[::-1] if self._is_transposed and _is_matrix(name) else shape
            if name in self._tensors and self._shape(name) != stored:
                raise UserError(
                    f"{self._place}: {name} has the shape {list(self._shape(name))}, not "
                    f"{list(stored)}."
                )
            if name not in self._tensors and not name.endswith("bias"):
                raise UserError(f"{self._place}: the tensor {name} is missing.")
        extra = set(self._tensors) - set(expected) - ({"lm_head.weight"} if self._tied else set())
        if extra:
            raise UserError(f"{self._place}: the tensor {min(extra)} belongs to no GPT-2.")
        if "ln_f.bias" not in self._tensors and any("c_fc.bias" in name for name in self._tensors):
            raise UserError(
                f"{self._place}: its norms have no biases and its matrices do. That is RMSNorm, "
                "another architecture."
            )


def state_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the tensors of `GPT2(config)`."""
    return {name: tuple(one.shape) for name, one in empty_model(config).state_dict().items()}


def _rename(place: object, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for stored, tensor in tensors.items():
        name = our_name(str(stored)[:300])
        if name == "":
            continue
        if name is None:
            what = other_architecture(str(stored))
            about = f", {what}: another architecture" if what else ""
            raise UserError(
                f"{place}: the tensor {str(stored)[:100]!r} belongs to no GPT-2{about}."
            )
        if name in found:
            raise UserError(f"{place}: the tensor {name} is there twice, as {stored!r} too.")
        if name.startswith("h.") and int(name.split(".")[1]) >= LIMITS["n_layer"]:
            raise UserError(f"{place}: {str(stored)[:100]!r} is of a layer beyond any GPT-2's.")
        require_stored_type(place, name, tensor.dtype)
        found[name] = tensor
    return found


def _is_matrix(name: str) -> bool:
    return name.endswith(".weight") and (".attn." in name or ".mlp." in name)


def _parts_of(name: str) -> list[str]:
    return [name.replace("c_attn", part) for part in _PARTS]
