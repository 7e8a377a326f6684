"""How large a prompt can be: an upper bound of its tokens, and its images.

Texts are counted where the model's vocabulary is known (models/vocabularies.py), else bounded by
their bytes: no token is shorter than one byte of UTF-8 (byte-level BPE: Sennrich et al. 2016, GPT-2
report section 2.2). Everything else, such as tools and calls, counts a token for each byte of its
JSON; what a provider wraps around the messages is bounded by the overheads below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tenantplane.dataplane.models.json_text import encoded
from tenantplane.dataplane.models.vocabularies import (
    COUNTED_ON_THE_LOOP,
    Vocabulary,
    count_tokens,
    utf8_bytes,
)

# Role markers and separators: OpenAI documents 3 to 4 tokens a message, 3 for the answer's start.
MESSAGE_OVERHEAD_TOKENS: Final = 16
# Anthropic documents up to about 700 tokens of system prompt once tools are given.
TOOLS_OVERHEAD_TOKENS: Final = 1024
# English text has about four bytes a token; only the rate window uses this, and settling corrects.
BYTES_PER_TOKEN_ESTIMATE: Final = 4

Messages = Sequence[Mapping[str, Any]]


class PromptSize(NamedTuple):
    """`most_tokens` bounds the tokens of all but the images; `about_tokens` is a guess at them."""

    most_tokens: int
    about_tokens: int
    images: int = 0


async def measure_prompt(
    messages: Messages, options: Mapping[str, Any], vocabulary: Vocabulary | None
) -> PromptSize:
    """As `prompt_size`; off the loop where there is much to count."""
    if vocabulary is None or sum(map(_characters, messages)) <= COUNTED_ON_THE_LOOP:
        return prompt_size(messages, options, vocabulary)
    return await asyncio.to_thread(prompt_size, messages, options, vocabulary)


def prompt_size(
    messages: Messages, options: Mapping[str, Any], vocabulary: Vocabulary | None
) -> PromptSize:
    texts: list[str] = []
    other_bytes = sum(map(_json_bytes, options.values()))
    images = 0
    for message in messages:
        for name, value in message.items():
            if name == "content":
                if isinstance(value, str):
                    texts.append(value)
                else:
                    images += _take_parts(value, texts)
            elif name != "role":  # one of few words, within the message's overhead
                other_bytes += _json_bytes(value)
    text_bytes = sum(map(utf8_bytes, texts))
    # Parts of a message are counted one by one, and joined by the provider.
    overhead = MESSAGE_OVERHEAD_TOKENS * (max(len(messages), len(texts)) + 1)
    overhead += TOOLS_OVERHEAD_TOKENS if options.get("tools") else 0
    if vocabulary is None:
        about = -(-(text_bytes + other_bytes) // BYTES_PER_TOKEN_ESTIMATE)
        return PromptSize(text_bytes + other_bytes + overhead, about, images)
    counted = min(text_bytes, count_tokens(texts, vocabulary))
    about = counted + -(-other_bytes // BYTES_PER_TOKEN_ESTIMATE)
    return PromptSize(counted + other_bytes + overhead, about, images)


async def measure_texts(
    texts: Sequence[str], vocabulary: Vocabulary | None, longest: int
) -> PromptSize:
    """As `texts_size`; off the loop where there is much to count."""
    if vocabulary is None or sum(map(len, texts)) <= COUNTED_ON_THE_LOOP:
        return texts_size(texts, vocabulary, longest)
    return await asyncio.to_thread(texts_size, texts, vocabulary, longest)


def texts_size(texts: Sequence[str], vocabulary: Vocabulary | None, longest: int) -> PromptSize:
    """Of texts that are read one by one, each as far as `longest` tokens."""
    sizes = [
        utf8_bytes(text) if vocabulary is None else count_tokens((text,), vocabulary)
        for text in texts
    ]
    most = sum(min(size + MESSAGE_OVERHEAD_TOKENS, longest) for size in sizes)
    divisor = BYTES_PER_TOKEN_ESTIMATE if vocabulary is None else 1
    return PromptSize(most, -(-sum(sizes) // divisor))


def _characters(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    if isinstance(content, str):
        return len(content)
    return sum(len(part.get("text", "")) for part in content or ())


def _take_parts(parts: Any, texts: list[str]) -> int:
    """Puts the texts of a message's content to the others; returns how many images it has."""
    images = 0
    for part in parts or ():
        if part["type"] == "image_url":
            images += 1
        else:
            texts.append(part["text"])
    return images


def _json_bytes(value: Any) -> int:
    return len(encoded(value))
