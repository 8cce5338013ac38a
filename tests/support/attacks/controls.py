"""Values that no slider and no field gives."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.attacks.table import Attack, Expected
from tests.support.attacks.texts import call, generate, learn

NAN, INFINITY = float("nan"), float("inf")
GENERATE = ("prompt", "model", "max_new_tokens", "temperature", "top_k", "top_p",
            "repetition_penalty", "seed", "stop", "stop_at_end_of_text", "min_p")  # fmt: skip
BAD = {
    "max_new_tokens": (0, -1, 1e9, 10**30, 1.5, True, "5", None, [5], NAN),
    "temperature": (NAN, INFINITY, -INFINITY, -1, 1e300, "1", True, None, {}),
    "top_k": (-1, 10**9, 1.5, "40", True, None, 2**63),
    "top_p": (0, -0.1, 1.0000001, NAN, "1", None, [0.5]),
    "repetition_penalty": (0, -1, NAN, 1e9, None, "1"),
    "seed": (2**64, -2, 1.5, "1", True, NAN, None),
    "stop": (5, None, {"a": 1}, [1], [["a"]], ["a"] * 1000),
    "stop_at_end_of_text": (0, 1, "true", None, []),
    "min_p": (-1, 1.5, NAN, "0", None),
}
EDGES = {"temperature": (0, 1e-30), "top_k": (0, 1, 50_258), "top_p": (1, 1e-30), "seed": (-1, 0)}
STEPS = (0, -1, 1e300, 1.5, True, None, "5", [5], NAN, 10**9, 2**63)
RUN = {
    "steps": STEPS,
    "learning_rate": (0, -1, 1, NAN, INFINITY, "1e-3", None),
    "batch_size": (0, -1, 10**9, 1.5, True),
    "block_size": (0, 1, -1, 10**9, 1.5),
    "dropout": (-0.1, 1, NAN, "0"),
    "precision": ("float8", 5, None, ["float32"]),
    "lora_rank": (-1, 10**6, 1.5),
    "compile": (True,),
    "sample_prompt": (5, None, ["a"], "x" * 1_000_000),
    "nonsense": (1,),
    "__class__": ("x",),
    "out": ("/tmp/x",),
}
ORDER = {
    "preset": (None, 5, "fast", ["taste"], "", "__init__"),
    "column": (5, ["text"], "no such column"),
    "owner": (5, "x", "0" * 31, "../" + "0" * 32, "A" * 32, "\uff11" * 32, None),
    "encoding": (5, "nonsense", "base64", ["utf-8"], "../utf-8", "a\0b"),
    "settings": (5, "steps=5", ["steps"], {"steps": {"steps": {}}}, {"": 1}, {"a" * 100_000: 1}),
}


def attacks() -> Iterator[Attack]:
    for name, values in BAD.items():
        for value in values:
            send = generate("Once", GENERATE.index(name), value)
            yield Attack("control", f"{name} {_short(value)}", send)
    for name, values in EDGES.items():
        for value in values:
            send = generate("Once", GENERATE.index(name), value)
            yield Attack("control", f"{name} {_short(value)}", send, Expected.ANSWERED)
    for name, values in RUN.items():
        for value in values:
            send = learn("It is a truth. " * 300, settings={name: value})
            yield Attack("setting", f"{name} {_short(value)}", send)
    for name, values in ORDER.items():
        for value in values:
            send = learn("It is a truth. " * 300, **_order(name, value))
            yield Attack("setting", f"{name} {_short(value)}", send)
    for keep in (None, 5, "worst", ["best"], "../best"):
        send = call("stop_run", "0" * 32, keep)
        yield Attack("setting", f"keep {_short(keep)}", send)
    for step in (None, -2, 1.5, "1", True, 10**30, [1]):
        send = call("download_run", "0" * 32, step)
        yield Attack("setting", f"download at {_short(step)}", send)
    yield Attack("control", "no inputs at all", call("generate"))
    yield Attack("control", "more inputs than there are", call("generate", *["x"] * 40))


def _order(name: str, value: object) -> dict:
    return {name: value} if name != "settings" else {"settings": value}


def _short(value: object) -> str:
    words = ascii(value)
    return words if len(words) < 40 else f"{words[:30]}... ({len(words)})"
