from __future__ import annotations

from typing import Any

import pytest

from tenantplane.dataplane.models.answer import Answer


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def test_text_and_calls_are_put_together_from_chunks() -> None:
    answer = Answer()
    texts = [
        answer.add_chunk(chunk)
        for chunk in (
            delta(role="assistant", content="Hé"),
            delta(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "clock"}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '{"time'}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '_zone":"UTC"}'}}]),
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
            {"choices": [], "usage": {"prompt_tokens": 1}},
        )
    ]
    assert texts == ["Hé", "", "", "", "", ""]
    assert [(c.id, c.name, c.arguments) for c in answer.tool_calls] == [
        ("c1", "clock", '{"time_zone":"UTC"}')
    ]
    assert answer.finish_reason == "tool_calls"
    assert answer.usage == {"prompt_tokens": 1}
    assert answer.produced_bytes == len("Hé".encode()) + len('clock{"time_zone":"UTC"}')


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"choices": None},
        {"choices": [None]},
        {"choices": [{"delta": 7}]},
        delta(content=7, tool_calls="x"),
        delta(tool_calls=[None, {"index": -1}, {"index": 10**9}, {"index": 0, "function": 3}]),
    ],
)
def test_garbage_adds_nothing(chunk: dict[str, Any]) -> None:
    answer = Answer()
    assert answer.add_chunk(chunk) == ""
    assert answer.content == ""
    assert answer.produced_bytes == 0


def test_a_lone_surrogate_becomes_something_that_can_be_stored() -> None:
    answer = Answer()
    assert answer.add_chunk(delta(content="a\ud800b")) == "a?b"
