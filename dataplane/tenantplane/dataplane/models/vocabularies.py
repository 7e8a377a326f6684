"""Tokens of a text, counted with a vocabulary that is the model's own.

The vocabularies are OpenAI's files byte for byte (a test compares their SHA-256 with the ones that
tiktoken publishes), and come inside a package: nothing is fetched. Which model uses which is said
by the operator (ProviderSettings.tokenizers); of no other model is anything believed.

A prompt is encoded by the provider itself in the shortest way that the vocabulary's merges give, so
the count is what it reads. What a model writes it may spell in other tokens than those: what is
counted of an answer has an allowance for that, and is an estimate, never the bound that holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import toktok  # type: ignore[import-untyped,unused-ignore]

Vocabulary = Literal["cl100k_base", "o200k_base"]

# Ten microseconds for a thousand characters of English, forty times that for the worst of texts:
# more than this is counted where it holds up nobody.
COUNTED_ON_THE_LOOP: Final = 8 * 1024
# So much of a prompt is counted, a tenth of a second at worst; the rest counts by its bytes.
_MOST_COUNTED: Final = 256 * 1024
# Of sixteen tokens that a model writes, one may be a needless split: far more than is seen.
_SPELLING_ALLOWANCE: Final = 16


def load(vocabularies: Iterable[Vocabulary]) -> None:
    """Takes some tenths of a second each, which the first count would take otherwise."""
    for vocabulary in vocabularies:
        _words(vocabulary)


def utf8_bytes(text: str) -> int:
    """Bounds the tokens of any tokenizer that works on bytes: none is shorter than one."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def count_tokens(texts: Sequence[str], vocabulary: Vocabulary) -> int:
    """Tokens of texts that are encoded one by one; what looks like a special token is text."""
    counted: list[str] = []
    room, beyond = _MOST_COUNTED, 0
    for text in texts:
        if len(text) <= room:
            room -= len(text)
            counted.append(text)
        else:
            beyond += utf8_bytes(text)
    words = _words(vocabulary)
    tokens: list[int]
    try:
        if _MOST_COUNTED - room <= COUNTED_ON_THE_LOOP:
            tokens = [words.count(text) for text in counted]
        else:  # dearer for a short text, but others can run meanwhile
            tokens = words.count_batch(counted, 1)
    except UnicodeEncodeError:  # a lone surrogate, which is no text in any vocabulary
        tokens = [utf8_bytes(text) for text in counted]
    return beyond + sum(tokens)


def count_written(text: str, vocabulary: Vocabulary | None) -> int:
    """About the tokens that a model wrote as `text`, rather too many; a byte each, which is the
    most that they can be, where its vocabulary is not known."""
    if vocabulary is None:
        return utf8_bytes(text)
    counted = count_tokens((text,), vocabulary)
    return counted + -(-counted // _SPELLING_ALLOWANCE)


@lru_cache
def _words(vocabulary: Vocabulary) -> Any:
    # The public functions of the package look the vocabulary up and start a thread for each text.
    return toktok._encoding(vocabulary)
