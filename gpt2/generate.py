"""Generation as two generators: token ids, then text.

`generate_batch` knows no text; `generate_pieces` turns its ids into pieces that are always whole
characters. `generate_tokens` and `generate_text` are the same for one sample, in the plainest form.

Past the context window. GPT-2's positions are learned and absolute, so a full cache cannot slide.
When it is full it is rebuilt from the last three quarters of the window: one forward over them
also yields the next token, and then a quarter of a window of single tokens follows. A rebuild thus
costs 3 prefilled tokens for every generated one, and any length costs linear time and N forwards.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from gpt2.decode import chunk_of, decode_rows, read_all
from gpt2.errors import UserError
from gpt2.model import GPT2, KVCache
from gpt2.prepack import PackedGPT2
from gpt2.sampling import Sampling, sample, sample_among
from gpt2.tokenizer import Tokenizer

MAX_PROMPT_BYTES = 400_000


@dataclass(frozen=True)
class Piece:
    """What one token added to one sample's text."""

    sample: int
    text: str  # whole characters, perhaps none yet
    tokens: int  # generated so far
    stop_reason: str | None = None  # "end of text", "stop text" or "length" in the last piece


def generate_text(
    model: GPT2, tokenizer: Tokenizer, prompt: str, sampling: Sampling
) -> Iterator[str]:
    """The continuation of `prompt`, in pieces of whole characters."""
    for piece in generate_pieces(model, tokenizer, prompt, replace(sampling, samples=1)):
        if piece.text:
            yield piece.text


def generate_pieces(
    model: GPT2, tokenizer: Tokenizer, prompt: str, sampling: Sampling
) -> Iterator[Piece]:
    """A piece for every token of every unfinished sample. `UserError` for an unusable prompt."""
    prompt_ids, openings = read_prompt(tokenizer, prompt)
    texts = texts_of(tokenizer, sampling, openings)
    for tokens in generate_batch(model, prompt_ids, sampling, tokenizer.vocab_size, openings):
        for text, token in zip(texts, tokens):
            if not text.finished:
                yield text.add(token)
        if all(text.finished for text in texts):
            return


def texts_of(
    tokenizer: Tokenizer, sampling: Sampling, openings: list[int] | None
) -> list[SampleText]:
    """A text to fill for each sample, of a prompt that `read_prompt` has read."""
    end = tokenizer.end_of_text if sampling.stop_at_end_of_text else None
    has = b" " if openings else b""
    return [SampleText(index, tokenizer, sampling, end, has) for index in range(sampling.samples)]


def generate_tokens(model: GPT2, prompt_ids: list[int], sampling: Sampling) -> Iterator[int]:
    """`max_new_tokens` ids that continue `prompt_ids`, which must not be empty."""
    for (token,) in generate_batch(model, prompt_ids, replace(sampling, samples=1)):
        yield token


def generate_batch(
    model: GPT2,
    prompt_ids: list[int],
    sampling: Sampling,
    vocabulary: int | None = None,
    openings: list[int] | None = None,
) -> Iterator[list[int]]:
    """At every step one token of each of `sampling.samples` continuations of `prompt_ids`.

    N steps cost N forwards. Of a prompt longer than the window the last tokens are read. Each
    sample draws from its own generator, so neither other samples nor other callers change it.
    Only ids below `vocabulary` are drawn: many models are padded beyond their tokenizer's. The
    first token is one of `openings`, where they are given.
    """
    window, samples = model.config.n_positions, sampling.samples
    history = torch.tensor(prompt_ids, device=model.device).repeat(samples, 1)  # (B, T)
    capacity = min(window, len(prompt_ids) + sampling.max_new_tokens)
    generators = [torch.Generator().manual_seed(sampling.seed + index) for index in range(samples)]

    cache = model.new_cache(1, capacity)
    fresh = history[:1, -window:]  # the samples share their prompt: read it once
    for step in range(sampling.max_new_tokens):
        logits = _next_logits(model, fresh, cache)[:, :vocabulary].expand(samples, -1)  # (B, V)
        draw_token = partial(sample_among, openings) if openings and step == 0 else sample
        tokens = [
            draw_token(logits[index], history[index, -window:], sampling, generators[index])
            for index in range(samples)
        ]
        yield tokens
        history = torch.cat((history, torch.tensor(tokens, device=model.device)[:, None]), dim=1)
        fresh = history[:, -1:]
        if cache.length == window:
            cache = model.new_cache(samples, capacity)
            fresh = history[:, -(window - window // 4) :]
        elif cache.batch != samples:
            cache = cache.repeat(samples)


@torch.inference_mode()
def _next_logits(model: GPT2, tokens: Tensor, cache: KVCache) -> Tensor:
    """Append `tokens` (B, T) to the cache; the logits (B, V) of those that follow. In the same
    chunks as `gpt2.decode`, and row by row where that costs nothing: then the bits are the same."""
    if isinstance(model, PackedGPT2):
        return _next_logits_of_rows(model, tokens.tolist(), cache)
    for chunk in tokens.split(chunk_of(model), dim=1):
        hidden = model.hidden(chunk, cache)
    return model.head(hidden[:, -1])


def _next_logits_of_rows(model: PackedGPT2, tokens: list[list[int]], cache: KVCache) -> Tensor:
    rows, count = cache.rows(), len(tokens[0])
    if count == 1:
        logits = decode_rows(model, [token for (token,) in tokens], rows)
    else:
        logits = torch.stack([read_all(model, ids, row) for ids, row in zip(tokens, rows)])
    cache.length += count
    return logits


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids that the model reads of a prompt. `UserError` for an unusable one."""
    return read_prompt(tokenizer, prompt)[0]


def read_prompt(tokenizer: Tokenizer, prompt: str) -> tuple[list[int], list[int] | None]:
    """Ids of a prompt, and those that may follow it, where not all may.

    Byte pairs hold a word together with the space before it, so a prompt that ends in a space is
    like no text that the model knows, and derails it: the space is left to the first new token.
    """
    if type(prompt) is not str:
        raise UserError("The prompt must be a text.")
    if (size := len(prompt.encode("utf-8", errors="replace"))) > MAX_PROMPT_BYTES:
        raise UserError(
            f"The prompt has {size:,} bytes; at most {MAX_PROMPT_BYTES:,} are read. "
            "The model sees only its last tokens: send the end of your text."
        )
    openings = _tokens_with_space(tokenizer) if prompt.endswith(" ") else None
    return _encode_from_start(tokenizer, prompt[:-1] if openings else prompt), openings


def _tokens_with_space(tokenizer: Tokenizer) -> list[int] | None:
    """The ids of all tokens that begin with a space; None where none holds more than the space."""
    texts = [tokenizer.decode_bytes([index]) for index in range(tokenizer.vocab_size)]
    found = [index for index, raw in enumerate(texts) if raw.startswith(b" ")]
    return found if any(len(texts[index]) > 1 for index in found) else None


def _encode_from_start(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """An empty prompt starts from the end of a text before, or from a new line."""
    if prompt:
        return tokenizer.encode(prompt)
    if tokenizer.end_of_text is not None:
        return [tokenizer.end_of_text]
    try:
        return tokenizer.encode("\n")
    except UserError:
        return [0]


class SampleText:
    """One sample's way from ids to text: whole characters, nothing behind a stop text, and not the
    beginning of its first token that the prompt `has` already."""

    def __init__(
        self, index: int, tokenizer: Tokenizer, sampling: Sampling, end: int | None, has: bytes
    ) -> None:
        self.finished = False
        self._index = index
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._end = end
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._has = has
        self._held = ""  # may be the beginning of a stop text
        self._tokens = 0

    def add(self, token: int) -> Piece:
        self._tokens += 1
        if token == self._end:
            return self._finish("end of text")
        raw = self._tokenizer.decode_bytes([token])
        self._held += self._decoder.decode(raw.removeprefix(self._has))
        self._has = b""
        if self._cut_at_stop():
            return self._piece(self._held, "stop text")
        if self._tokens == self._sampling.max_new_tokens:
            return self._finish("length")
        return self._piece(self._take_safe())

    def _cut_at_stop(self) -> bool:
        """Cut the held text before the stop text that is complete first; whether there is one."""
        starts = ((self._held.find(stop), stop) for stop in self._sampling.stop)
        found = [(start + len(stop), start) for start, stop in starts if start >= 0]
        if found:
            self._held = self._held[: min(found)[1]]
        return bool(found)

    def _take_safe(self) -> str:
        """All held text but an end that may grow into a stop text."""
        keep = max((_overlap(self._held, stop) for stop in self._sampling.stop), default=0)
        split = len(self._held) - keep
        safe, self._held = self._held[:split], self._held[split:]
        return safe

    def _finish(self, reason: str) -> Piece:
        self._held += self._decoder.decode(b"", final=True)
        if self._cut_at_stop():
            reason = "stop text"
        return self._piece(self._held, reason)

    def _piece(self, text: str, reason: str | None = None) -> Piece:
        self.finished = reason is not None
        return Piece(self._index, text, self._tokens, reason)


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters of `text` are the first of `stop`, which it does not hold."""
    longest = min(len(stop) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
