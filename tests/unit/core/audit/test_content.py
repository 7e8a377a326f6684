"""Content as canonical JSON: one text for one value, whichever way it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from tenantplane.core.audit import content
from tenantplane.core.audit.content import JSON_TEXT, content_of, light_content_of

# Surrogates too; and keys that UTF-16 sorts otherwise than code points.
_texts = st.text(st.characters(exclude_categories=())) | st.sampled_from(["\uffff", "\U0001f600"])
_numbers = st.integers() | st.floats() | st.floats(1e-6, 1e16) | st.sampled_from([2**53, 1 - 2**53])
any_json = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=20,
)


def by_rfc_8785(value: Any) -> bytes:
    if not content._representable(value):
        value = {JSON_TEXT: json.dumps(value)}
    return rfc8785.dumps(value)


@given(any_json)
@example({"\uffff": 1, "\U0001f600": 2})
@example([1e-5, 0.1, 1.0, -0.0, 1e15 - 0.25, 1e21, 5e-324])
@example(['\x00\x1f\x7f\u2028 " \\ / \b\f\n\r\t', {"b": None, "a": True}])
def test_the_short_way_writes_what_the_long_one_does(value: Any) -> None:
    assert content_of(value) == by_rfc_8785(value)


@given(any_json, st.integers(0, 60))
def test_light_content_is_written_alike_and_heavy_content_not_at_all(value: Any, most: int) -> None:
    assert light_content_of(value, most) in (None, content_of(value))
    assert light_content_of(value, 10**9) == content_of(value)


@pytest.mark.parametrize(
    "heavy", ["x" * 101, ["x"] * 12, {str(n): n for n in range(13)}, [[[]] * 12]]
)
def test_content_is_heavy_by_its_texts_and_its_parts(heavy: Any) -> None:
    assert light_content_of([heavy], 100) is None
    assert light_content_of([heavy], 200) == content_of([heavy])


@given(any_json)
def test_written_content_is_written_alike_again(value: Any) -> None:
    assert content_of(json.loads(content_of(value))) == content_of(value)


@pytest.mark.parametrize(
    "value",
    [2**64, 2.0**53, float("nan"), float("inf"), "\ud800", {"\udfff": 1}, [{"deep": -(2**53)}]],
)
def test_what_canonical_json_cannot_say_is_kept_as_text(value: Any) -> None:
    kept = json.loads(content_of(value))
    assert json.dumps(json.loads(kept[JSON_TEXT])) == json.dumps(value)


@pytest.mark.parametrize("depth", [63, 64, 65, 500])
def test_content_nested_without_end_is_kept_as_text(depth: int) -> None:
    value: Any = "bottom"
    for _ in range(depth):
        value = [value]
    kept = value if depth <= 64 else {JSON_TEXT: json.dumps(value)}
    assert json.loads(content_of(value)) == kept


@pytest.mark.parametrize("value", [object(), [object()], {1: 2}])
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        content_of(value)
