"""Learn a byte-pair vocabulary from a text, with the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Iterable

from gpt2.errors import UserError
from gpt2.tokenizer import END_OF_TEXT, BytePairTokenizer, byte_characters


def learn_vocabulary(documents: Iterable[str], size: int) -> BytePairTokenizer:
    """A tokenizer of `size` ids in GPT-2's layout: bytes, merges in order, end of text last."""
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    except ImportError:
        raise UserError("Learning a vocabulary needs a library: pip install tokenizers") from None
    if size < 257:
        raise UserError("A byte-level vocabulary has at least 257 entries.")
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(documents, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    tokens = [*byte_characters(), *(left + right for left, right in merges), END_OF_TEXT]
    return BytePairTokenizer({token: index for index, token in enumerate(tokens)}, merges)
