"""A prompt's bound is never below what a tokenizer could make of it."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
import toktok  # type: ignore[import-untyped,unused-ignore]
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.dataplane.models.prompts import (
    MESSAGE_OVERHEAD_TOKENS,
    TOOLS_OVERHEAD_TOKENS,
    measure_prompt,
    measure_texts,
    prompt_size,
    texts_size,
)
from tenantplane.dataplane.models.vocabularies import (
    Vocabulary,
    count_tokens,
    count_written,
    load,
    utf8_bytes,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    load(("cl100k_base", "o200k_base"))


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def test_a_prompt_is_bounded_by_its_bytes_not_its_characters() -> None:
    one_byte = prompt_size(user("a" * 100), {}, None).most_tokens
    four_bytes = prompt_size(user("𝔞" * 100), {}, None).most_tokens
    assert four_bytes - one_byte == 300


def test_tools_count_towards_the_prompt() -> None:
    tools = [{"type": "function", "function": {"name": "clock", "parameters": {}}}]
    with_tools = prompt_size(user("a"), {"tools": tools}, None).most_tokens
    assert with_tools > prompt_size(user("a"), {}, None).most_tokens + TOOLS_OVERHEAD_TOKENS


@pytest.mark.parametrize("vocabulary", [None, "o200k_base"])
def test_all_of_a_message_counts(vocabulary: Vocabulary | None) -> None:
    def size(**fields: Any) -> int:
        return prompt_size([{"role": "assistant", **fields}], {}, vocabulary).most_tokens

    empty = size(content="")
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "x" * 50}}
    assert size(content=None, tool_calls=[call]) >= empty + 50
    assert size(content="", name="n" * 20) >= empty + 20
    assert size(content="", refusal="r" * 20) >= empty + 20
    assert size(content=[{"type": "text", "text": "ab "}, {"type": "text", "text": "cd"}]) > empty
    two = prompt_size([*user("a"), *user("a")], {}, vocabulary).most_tokens
    one = prompt_size(user("a"), {}, vocabulary).most_tokens
    assert two == one + 1 + MESSAGE_OVERHEAD_TOKENS


def test_images_are_counted_and_their_bytes_are_not() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5_000}}
    size = prompt_size(user([{"type": "text", "text": "what?"}, image, image]), {}, None)
    assert size.images == 2
    assert size.most_tokens == prompt_size(user("what?"), {}, None).most_tokens


@given(st.lists(ANY_TEXT, min_size=1, max_size=3))
@pytest.mark.parametrize("vocabulary", ["cl100k_base", "o200k_base"])
def test_a_count_is_exact_and_never_above_the_bytes(
    vocabulary: Vocabulary, texts: list[str]
) -> None:
    """Against the ids that the same vocabulary gives, decoded back to the same text."""
    messages = [message for text in texts for message in user(text)]
    counted = prompt_size(messages, {}, vocabulary)
    overhead = MESSAGE_OVERHEAD_TOKENS * (len(texts) + 1)
    whole = toktok._encoding(vocabulary)
    tokens = 0
    for text in texts:
        if not _is_text(text):
            tokens = sum(map(utf8_bytes, texts))  # not to be encoded: bytes bound them all
            break
        ids = whole.encode_ordinary(text)
        assert whole.decode(ids) == text
        tokens += len(ids)
    assert counted.most_tokens == tokens + overhead
    assert counted.most_tokens <= prompt_size(messages, {}, None).most_tokens


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# SHA-256 of the files that tiktoken loads (tiktoken_ext/openai_public.py).
@pytest.mark.parametrize(
    ("vocabulary", "size", "sha256"),
    [
        (
            "cl100k_base",
            100_256,
            "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        ),
        (
            "o200k_base",
            199_998,
            "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        ),
    ],
)
def test_the_vocabularies_are_openais_byte_for_byte(
    vocabulary: Vocabulary, size: int, sha256: str
) -> None:
    words = toktok._encoding(vocabulary)
    digest = hashlib.sha256()
    for rank in range(size):
        digest.update(base64.b64encode(words.decode_single_token_bytes(rank)) + b" %d\n" % rank)
    assert digest.hexdigest() == sha256


def test_what_looks_like_a_special_token_is_text() -> None:
    assert count_tokens(["<|endoftext|>"], "cl100k_base") > 1


@given(ANY_TEXT)
def test_what_a_model_wrote_is_counted_rather_too_high(text: str) -> None:
    counted = count_written(text, "o200k_base")
    assert counted >= count_tokens([text], "o200k_base")
    assert (counted > 0) is bool(text)
    assert count_written(text, None) == utf8_bytes(text)


@pytest.mark.parametrize("length", [8 * 1024, 8 * 1024 + 1, 250_000])
def test_long_texts_are_counted_like_short_ones(length: int) -> None:
    text = ("leave there are, and who signs " * 10_000)[:length]
    ids = toktok._encoding("o200k_base").encode_ordinary(text)
    assert count_tokens([text], "o200k_base") == len(ids)


def test_what_is_longer_than_all_that_is_counted_counts_by_its_bytes() -> None:
    long = "word " * 60_000
    assert count_tokens([long], "o200k_base") == len(long)
    assert count_tokens(["word", long], "o200k_base") == 1 + len(long)


async def test_much_to_count_is_counted_off_the_loop_to_the_same_result() -> None:
    long = "one two three " * 20_000
    assert await measure_prompt(user(long), {}, "o200k_base") == prompt_size(
        user(long), {}, "o200k_base"
    )
    assert await measure_texts([long], None, 10**6) == texts_size([long], None, 10**6)
