from __future__ import annotations

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from tenantplane.dataplane.models.answer import Answer, ToolCallAnswer
from tenantplane.dataplane.runtime.messages import INTERRUPTED, from_answer, to_wire


def calls(*ids: str) -> AIMessage:
    answer = Answer(tool_calls=[ToolCallAnswer(i, "clock", "{}") for i in ids])
    return from_answer(answer)


def test_a_call_that_was_never_made_is_answered_for() -> None:
    wire = to_wire(
        [
            HumanMessage("q"),
            calls("a", "b"),
            ToolMessage("noon", tool_call_id="a"),
            HumanMessage("again"),
            calls("c"),
        ]
    )
    assert [(m["role"], m.get("tool_call_id"), m["content"]) for m in wire] == [
        ("user", None, "q"),
        ("assistant", None, ""),
        ("tool", "a", "noon"),
        ("tool", "b", INTERRUPTED),
        ("user", None, "again"),
        ("assistant", None, ""),
        ("tool", "c", INTERRUPTED),
    ]


def test_raw_arguments_go_back_as_the_model_wrote_them() -> None:
    message = from_answer(Answer(tool_calls=[ToolCallAnswer("", "", "{not json")]))
    (wire,) = to_wire([message])[:1]
    assert wire["tool_calls"] == [
        {
            "id": "call_0",
            "type": "function",
            "function": {"name": "unnamed", "arguments": "{not json"},
        }
    ]
