from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.errors import InvalidInput
from tenantplane.dataplane.models.chat import parse_chat_request


def body(**changes: Any) -> bytes:
    base = {"model": "assistant-1", "messages": [{"role": "user", "content": "Hello"}]}
    return json.dumps(base | changes).encode()


def test_options_go_upstream_as_given_and_nothing_of_ours() -> None:
    request = parse_chat_request(
        body(temperature=0.5, max_tokens=9, metadata={"k": "v"}, user="u", stop=["a"], seed=None)
    )
    assert request.wire_options() == {"temperature": 0.5, "stop": ["a"]}
    assert request.output_limit == 9


def test_every_bad_field_is_named() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_chat_request(
            body(messages=[{"role": "user"}], temperature=9, n=2, web_search_options={}, store=True)
        )
    assert {e.path for e in refused.value.errors} == {
        "messages.0.content",
        "temperature",
        "n",
        "web_search_options",
        "store",
    }


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"audio": {}}, "audio"),
        ({"prediction": {}}, "prediction"),
        ({"functions": []}, "functions"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
        ({"stop": 7}, "stop"),
    ],
)
def test_what_could_cost_more_or_is_malformed_is_refused(
    changes: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_chat_request(body(**changes))
    assert [e.path for e in refused.value.errors] == [path]


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'"\xff"', b'{"model": "\\ud800"}'])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_chat_request(data)


def image(url: str, **fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,AA==", "https://example.com/a.jpg", "data:image/webp;base64,A"]
)
def test_a_users_image_is_passed_on_as_it_is(url: str) -> None:
    parts = [{"type": "text", "text": "What is this?"}, image(url, detail="low")]
    messages = [{"role": "user", "content": parts}]
    assert parse_chat_request(body(messages=messages)).wire_messages() == messages


@pytest.mark.parametrize("url", ["http://example.com/a", "file:///etc/passwd", "", "data:text/x,"])
def test_an_image_from_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_chat_request(body(messages=[{"role": "user", "content": [image(url)]}]))
    assert "messages.0.content.0.image_url.url" in [e.path for e in refused.value.errors]


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_only_users_send_images(role: str) -> None:
    part = image("data:image/png;base64,AA==")
    with pytest.raises(InvalidInput):
        parse_chat_request(body(messages=[{"role": role, "content": [part]}]))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1.5E+400"])
@pytest.mark.parametrize(
    ("field", "path"),
    [
        ('"temperature": #', "temperature"),
        ('"max_tokens": #', "max_tokens"),
        ('"logit_bias": {"50256": #}', "logit_bias.50256"),
        ('"response_format": {"schema": {"enum": [1, #]}}', "response_format.schema.enum.1"),
        ('"tool_choice": {"weight": #}', "tool_choice.weight"),
        (
            '"tools": [{"type": "function", "function":'
            ' {"name": "f", "parameters": {"maximum": #}}}]',
            "tools.0.function.parameters.maximum",
        ),
        # Not passed on, and refused all the same: no body that is no JSON is half accepted.
        ('"messages": [{"role": "assistant", "content": "x", "extra": #}]', "messages.0.extra"),
    ],
)
def test_a_number_that_json_does_not_have_is_refused_by_its_field(
    field: str, path: str, number: str
) -> None:
    text = (
        '{"model": "assistant-1", "messages": [{"role": "user", "content": "Hello"}], '
        + field.replace("#", number)
        + "}"
    )
    with pytest.raises(InvalidInput) as refused:
        parse_chat_request(text.encode())
    assert [e.path for e in refused.value.errors] == [path]
    assert path in refused.value.detail


@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,400})(\.[0-9]{1,3})?([eE][-+]?[0-9]{1,4})?", fullmatch=True)
)
def test_a_number_is_refused_where_no_double_holds_it(number: str) -> None:
    text = body(response_format={"weight": "#"}).decode().replace('"#"', number)
    if math.isinf(float(number)) and not number.lstrip("-").isdigit():
        with pytest.raises(InvalidInput):
            parse_chat_request(text.encode())
    else:
        parse_chat_request(text.encode())


def test_a_bias_spelled_out_as_a_text_is_refused_too() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_chat_request(body(logit_bias={"50256": "NaN"}))
    assert [e.path for e in refused.value.errors] == ["logit_bias.50256"]


def test_all_fields_are_named_beside_a_number_that_json_does_not_have() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_chat_request(body(n=2, temperature=float("nan"), logit_bias={"1": float("inf")}))
    assert {e.path for e in refused.value.errors} == {"n", "temperature", "logit_bias.1"}


def test_texts_that_read_like_numbers_are_texts() -> None:
    schema = {"title": "NaN", "const": "1e999", "examples": ["Infinity"]}
    assert parse_chat_request(body(response_format=schema)).response_format == schema


def test_a_body_of_too_many_values_is_refused_and_a_long_text_is_not() -> None:
    parse_chat_request(body(messages=[{"role": "user", "content": "x, " * 1_000_000}]))
    within = body(response_format={"numbers": [0] * 40_000})
    parse_chat_request(within)
    for many in ([0] * 60_000, [[0] * 100] * 600, {str(n): 0 for n in range(60_000)}):
        with pytest.raises(InvalidInput) as refused:
            parse_chat_request(body(response_format={"values": many}))
        assert refused.value.error_code == "too_many_values"
