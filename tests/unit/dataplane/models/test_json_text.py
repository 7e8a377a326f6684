"""The fast way writes and reads what the standard library does."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.dataplane.models.json_text import decoded, encoded


def _is_within_64_bits(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_within_64_bits, value.values()))
    if isinstance(value, list):
        return all(map(_is_within_64_bits, value))
    return not isinstance(value, int) or -(2**63) <= value < 2**64


TEXTS = st.text(st.characters())  # lone surrogates too
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


@given(VALUES)
def test_what_is_written_says_the_same(value: Any) -> None:
    assert json.loads(encoded(value)) == json.loads(json.dumps(value))


@given(VALUES.filter(_is_within_64_bits), st.booleans())
def test_what_is_read_is_the_same(value: Any, ascii_alone: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_alone)
    data = text.encode("utf-8", "replace")
    assert decoded(data) == json.loads(data)


def test_a_number_that_json_does_not_have_is_written_as_none() -> None:
    assert encoded([math.nan, -math.inf]) == b"[null,null]"


def test_what_only_some_providers_send_is_read() -> None:
    assert math.isnan(decoded(b'{"logprob": NaN}')["logprob"])
    assert decoded(b'"\\ud800"') == "\ud800"


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        decoded(b"{")
