from __future__ import annotations

from typing import Any

import pytest

from tenantplane.dataplane.models.script import ScriptedCall, answer, fault_asked


def request(text: str, *tools: str, **more: Any) -> dict[str, Any]:
    offered = [{"type": "function", "function": {"name": t}} for t in tools]
    body: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
    return body | ({"tools": offered} if offered else {}) | more


@pytest.mark.parametrize(
    ("body", "call"),
    [
        (request("What time is it?", "clock"), ScriptedCall("clock", "{}")),
        (
            request("time in Asia/Tokyo?", "clock"),
            ScriptedCall("clock", '{"time_zone": "Asia/Tokyo"}'),
        ),
        (request("What time is it?"), None),
        (
            request("Note: buy tea", "notes_write"),
            ScriptedCall("notes_write", '{"text": "buy tea"}'),
        ),
        (
            request("Please remember that tea is green", "notes_write"),
            ScriptedCall("notes_write", '{"text": "tea is green"}'),
        ),
        (
            request("What did I note?", "notes_read", "notes_write"),
            ScriptedCall("notes_read", "{}"),
        ),
        (
            request("What does our handbook say of travel?", "documents_search"),
            ScriptedCall("documents_search", '{"query": "What does our handbook say of travel?"}'),
        ),
        (request("What does our handbook say of travel?"), None),
        (request('[[call:rm {"all": true}]]'), ScriptedCall("rm", '{"all": true}')),
        (request("[[loop]]", "clock"), ScriptedCall("clock", "{}")),
        (request("[[loop]]"), None),
    ],
)
def test_tools_are_called_on_cue(body: dict[str, Any], call: ScriptedCall | None) -> None:
    assert answer(body).call == call


def test_the_same_request_gets_the_same_answer_within_its_limit() -> None:
    body = request("[[tokens:9]]", max_tokens=4)
    assert answer(body) == answer(body)
    assert (answer(body).text, answer(body).finish_reason) == (" word" * 4, "length")


def test_faults_are_those_that_are_known() -> None:
    assert fault_asked(request("[[fault:429]]")) == "429"
    assert fault_asked(request("[[fault:earthquake]]")) is None
