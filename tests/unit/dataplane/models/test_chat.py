from __future__ import annotations

import json
from typing import Any

import pytest

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
        ({"stream_options": {"include_usage": True}}, "body"),
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


def test_images_are_refused_while_no_price_bounds_them() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    with pytest.raises(InvalidInput):
        parse_chat_request(body(messages=[{"role": "user", "content": [part]}]))
