"""GPT-2 as a graph of ONNX, with the past keys and values as inputs: what transformers.js expects.

Inputs: input_ids, attention_mask (B, S), position_ids (B, T), past_key_values.N.key and .value
(B, H, P, D). Outputs: logits (B, T, V), present.N.key and .value (B, H, S, D). Shapes are named as
in `gpt2.model`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from gpt2.errors import UserError
from gpt2.model import GPT2, ModelConfig

OPSET, IR_VERSION = 20, 9  # Gelu is of 20; both are of 2023, so that older runtimes open the file
_LOWEST = float(np.finfo(np.float32).min)


def import_onnx():
    """The library, or a clear message that it has to be installed."""
    try:
        import onnx
        import onnxruntime  # noqa: F401  (quantizes and checks what was written)
    except ImportError:
        raise UserError(
            "ONNX files take the libraries onnx and onnxruntime, which are not installed (nothing "
            "else needs them): pip install onnx onnxruntime, then try again."
        ) from None
    return onnx


def build_onnx(model: GPT2, own_head: bool = False):
    """The `onnx.ModelProto` of a float32 model. With `own_head` a tied head is a constant of its
    own, so that it can be quantized; otherwise it is the embedding, and stored once."""
    return _Builder(model, own_head).build()


def past_names(layers: int) -> Iterator[tuple[str, str]]:
    """The inputs for past keys and values, and the outputs that go into them the next time."""
    for layer in range(layers):
        for kind in ("key", "value"):
            yield f"past_key_values.{layer}.{kind}", f"present.{layer}.{kind}"


class _Builder:
    """Nodes in the order of computation, each method with the names of its inputs and outputs."""

    def __init__(self, model: GPT2, own_head: bool) -> None:
        self._onnx = import_onnx()
        self._config, self._state = model.config, model.state_dict()
        self._own_head = own_head
        self._nodes: list[object] = []
        self._constants: dict[str, object] = {}

    def build(self):
        onnx, config = self._onnx, self._config
        x = self._add("Gather", self._weight("wte.weight"), "input_ids")
        x = self._add("Add", x, self._add("Gather", self._weight("wpe.weight"), "position_ids"))
        mask = self._mask()
        for layer in range(config.n_layer):
            x = self._add("Add", x, self._attention(layer, self._norm(x, f"h.{layer}.ln_1"), mask))
            x = self._add("Add", x, self._mlp(f"h.{layer}.mlp", self._norm(x, f"h.{layer}.ln_2")))
        self._add("MatMul", self._norm(x, "ln_f"), self._head(), to="logits")
        inputs, outputs = self._faces()
        graph = onnx.helper.make_graph(
            self._nodes, "gpt2", inputs, outputs, list(self._constants.values())
        )
        made = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], producer_name="gpt2"
        )
        made.ir_version = IR_VERSION
        return made

    def _add(self, kind: str, *inputs: str, to: str = "", **attributes: object) -> str:
        output = to or f"{kind}_{len(self._nodes)}"
        node = self._onnx.helper.make_node(kind, inputs, [output], output, **attributes)
        self._nodes.append(node)
        return output

    def _constant(self, name: str, values: object) -> str:
        if name not in self._constants:
            array = np.ascontiguousarray(values)
            self._constants[name] = self._onnx.numpy_helper.from_array(array, name)
        return name

    def _numbers(self, *values: int) -> str:
        return self._constant(f"numbers_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def _weight(self, name: str) -> str:
        return self._constant(name, _to_numpy(self._state[name]))

    def _norm(self, x: str, name: str) -> str:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        epsilon = self._config.layer_norm_epsilon
        return self._add("LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon)

    def _linear(self, x: str, name: str) -> str:
        out = self._add("MatMul", x, self._weight(f"{name}.weight"))
        bias = f"{name}.bias"
        return self._add("Add", out, self._weight(bias)) if bias in self._state else out

    def _mask(self) -> str:
        """(B, 1, T, S), 0 where a token looks and the lowest number where it does not."""
        length, total = (
            self._add("Squeeze", self._add("Shape", name, start=1, end=2))
            for name in ("input_ids", "attention_mask")
        )
        zero = self._constant("zero", np.array(0, np.int64))
        one = self._constant("one", np.array(1, np.int64))
        rows = self._add("Range", self._add("Sub", total, length), total, one)  # (T,)
        rows = self._add("Unsqueeze", rows, self._numbers(1))  # (T, 1)
        causal = self._add("LessOrEqual", self._add("Range", zero, total, one), rows)  # (T, S)
        kept = self._add("Greater", "attention_mask", zero)  # (B, S)
        seen = self._add("And", causal, self._add("Unsqueeze", kept, self._numbers(1, 2)))
        nothing = self._constant("nothing", np.array(0, np.float32))
        lowest = self._constant("lowest", np.array(_LOWEST, np.float32))
        return self._add("Where", seen, nothing, lowest)

    def _heads(self, x: str) -> str:
        """(B, T, C) -> (B, H, T, D)."""
        config = self._config
        shape = self._numbers(0, 0, config.n_head, config.n_embd // config.n_head)
        return self._add("Transpose", self._add("Reshape", x, shape), perm=[0, 2, 1, 3])

    def _attention(self, layer: int, x: str, mask: str) -> str:
        config = self._config
        name = f"h.{layer}.attn"
        fused = self._linear(x, f"{name}.c_attn")
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        thirds = self._numbers(*[config.n_embd] * 3)
        self._nodes.append(self._onnx.helper.make_node("Split", [fused, thirds], parts, axis=-1))
        query, key, value = map(self._heads, parts)
        past, present = f"past_key_values.{layer}", f"present.{layer}"
        key = self._add("Concat", f"{past}.key", key, to=f"{present}.key", axis=2)
        value = self._add("Concat", f"{past}.value", value, to=f"{present}.value", axis=2)
        scores = self._add("MatMul", query, self._add("Transpose", key, perm=[0, 1, 3, 2]))
        scale = self._constant(f"{name}.scale", np.array(_scale(config, layer), np.float32))
        scores = self._add("Add", self._add("Mul", scores, scale), mask)
        mixed = self._add("MatMul", self._add("Softmax", scores, axis=-1), value)
        mixed = self._add("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = self._add("Reshape", mixed, self._numbers(0, 0, config.n_embd))
        return self._linear(mixed, f"{name}.c_proj")

    def _mlp(self, name: str, x: str) -> str:
        how = "none" if self._config.exact_gelu else "tanh"
        wide = self._add("Gelu", self._linear(x, f"{name}.c_fc"), approximate=how)
        return self._linear(wide, f"{name}.c_proj")

    def _head(self) -> str:
        """(C, V)."""
        tied = self._config.tie_word_embeddings
        if tied and not self._own_head:
            return self._add("Transpose", self._weight("wte.weight"), perm=[1, 0])
        head = self._state["wte.weight" if tied else "lm_head.weight"]
        return self._constant("head.weight", _to_numpy(head.t()))

    def _faces(self) -> tuple[list[object], list[object]]:
        config, types = self._config, self._onnx.TensorProto
        info = self._onnx.helper.make_tensor_value_info
        heads, size = config.n_head, config.n_embd // config.n_head
        new, all_ = ["batch_size", "sequence_length"], ["batch_size", "total_sequence_length"]
        past = ["batch_size", heads, "past_sequence_length", size]
        present = ["batch_size", heads, "total_sequence_length", size]
        names = list(past_names(config.n_layer))
        inputs = [
            info("input_ids", types.INT64, new),
            info("attention_mask", types.INT64, all_),
            info("position_ids", types.INT64, new),
            *(info(name, types.FLOAT, past) for name, _ in names),
        ]
        outputs = [
            info("logits", types.FLOAT, [*new, config.vocab_size]),
            *(info(name, types.FLOAT, present) for _, name in names),
        ]
        return inputs, outputs


def _scale(config: ModelConfig, layer: int) -> float:
    divisor = layer + 1 if config.scale_attn_by_inverse_layer_idx else 1
    return 1 / (math.sqrt(config.n_embd // config.n_head) * divisor)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.float().contiguous().numpy()
