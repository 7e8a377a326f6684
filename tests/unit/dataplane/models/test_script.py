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


def test_thought_takes_from_the_limit_and_is_not_seen() -> None:
    scripted = answer(request("[[reasoning:5]] [[tokens:9]]", max_tokens=8))
    assert (scripted.text, scripted.finish_reason) == (" word" * 3, "length")
    assert (scripted.output_tokens, scripted.reasoning_tokens) == (8, 5)
    assert answer(request("[[reasoning:5]] [[tokens:9]]", max_tokens=4)).reasoning_tokens == 4


def test_no_more_is_cached_than_was_asked() -> None:
    scripted = answer(request("[[cached:9999]] Hello"))
    assert scripted.cached_tokens == scripted.prompt_tokens


def test_a_limit_is_ignored_on_cue() -> None:
    assert answer(request("[[tokens:9]] [[fault:no-limit]]", max_tokens=4)).text == " word" * 9


def test_an_image_is_worth_many_tokens() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": "What is this?"}
    plain = answer({"messages": [{"role": "user", "content": [text]}]})
    with_image = answer({"messages": [{"role": "user", "content": [text, picture]}]})
    assert with_image.prompt_tokens - plain.prompt_tokens == 765
    assert with_image.text == plain.text
