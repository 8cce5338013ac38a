"""The settings of a generation as code to paste elsewhere: Python, curl, command line.

Each reproduces the same texts: it has the model's name, every setting and the seed that was drawn.
Sample i uses seed + i, so code that makes one text at a time names that seed.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass, replace

from gpt2.sampling import Sampling
from gpt2.settings import as_flags
from ui.models import Choice


@dataclass(frozen=True)
class Snippets:
    python: str
    curl: str
    command: str


def make_snippets(choice: Choice, prompt: str, sampling: Sampling, server: str) -> Snippets:
    """`server` is the address at which the visitor sees this page."""
    return Snippets(
        python=as_python(choice.source, prompt, sampling),
        curl=as_curl(choice.name, prompt, sampling, server),
        command=as_command(choice.source, prompt, sampling),
    )


def as_python(model: str, prompt: str, sampling: Sampling) -> str:
    """Runs in the project's folder."""
    settings = "".join(f"    {name}={value!r},\n" for name, value in asdict(sampling).items())
    return f"""\
from gpt2.generate import generate_pieces
from gpt2.inference import load_for_inference
from gpt2.sampling import Sampling

model, tokenizer = load_for_inference({model!r})
prompt = {prompt!r}
sampling = Sampling(
{settings})
texts = [prompt] * sampling.samples
for piece in generate_pieces(model, tokenizer, prompt, sampling):
    texts[piece.sample] += piece.text
print(*texts, sep="\\n\\n---\\n\\n")
"""


def as_command(model: str, prompt: str, sampling: Sampling) -> str:
    """Runs in the project's folder. A prompt that looks like a flag goes after `--`; a dash alone,
    which stands for standard input, comes from there."""
    words = ["python", "-m", "gpt2", "generate", "--model", model, *as_flags(sampling)]
    line = shlex.join([*words, "--", prompt])
    return f"printf %s - | {line}" if prompt == "-" else line


def as_curl(model: str, prompt: str, sampling: Sampling, server: str) -> str:
    """One request per sample: the first call returns an id, the second streams the text."""
    api = f"{server.rstrip('/')}/gradio_api/call"
    calls = []
    for index in range(sampling.samples):
        body = asdict(replace(sampling, seed=sampling.seed + index))
        del body["samples"]
        body = json.dumps({"prompt": prompt, "model": model, **body}, ensure_ascii=False)
        calls.append(
            f"ID=$(curl -s {shlex.quote(api + '/v2/generate')} \\\n"
            f"  -H 'Content-Type: application/json' \\\n"
            f"  -d {shlex.quote(body)} | cut -d '\"' -f 4)\n"
            f"curl -sN {shlex.quote(api + '/generate')}/$ID\n"
        )
    return "\n".join(calls)
