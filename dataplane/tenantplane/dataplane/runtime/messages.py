"""Messages on their way between the client, the thread's state and the provider. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from tenantplane.core.errors import FieldError, InvalidInput
from tenantplane.dataplane.models import chat
from tenantplane.dataplane.models.answer import Answer

INTERRUPTED = "Error: the run was halted before this call was made."


def from_client(messages: Sequence[chat.Message]) -> list[AnyMessage]:
    """What a client may add to a thread: words, never calls or results of tools.

    Raises InvalidInput for messages that would speak for the org's tools.
    """
    accepted: list[AnyMessage] = []
    errors: list[FieldError] = []
    for position, message in enumerate(messages):
        match message:
            case chat.InstructionMessage():
                accepted.append(SystemMessage(_text(message.content)))
            case chat.UserMessage() if _is_text(message.content):
                accepted.append(HumanMessage(_text(message.content)))
            case chat.UserMessage():
                errors.append(
                    FieldError(
                        f"messages.{position}", "an agent takes text alone: leave images out"
                    )
                )
            case chat.AssistantMessage() if message.tool_calls is None:
                accepted.append(AIMessage(_text(message.content or "")))
            case _:
                errors.append(
                    FieldError(
                        f"messages.{position}",
                        "an agent calls its tools itself: send only what people and assistants said",
                    )
                )
    if not errors and not isinstance(messages[-1], chat.UserMessage):
        errors.append(
            FieldError(f"messages.{len(messages) - 1}", "the last message must be user's")
        )
    if errors:
        raise InvalidInput("The messages do not suit an agent.", errors=tuple(errors))
    return accepted


def from_answer(answer: Answer) -> AIMessage:
    """A model's answer as state keeps it; raw arguments stay as the model wrote them."""
    calls = [
        {
            "id": call.id or f"call_{position}",
            "type": "function",
            "function": {"name": call.name or "unnamed", "arguments": call.arguments},
        }
        for position, call in enumerate(answer.tool_calls)
    ]
    content = answer.content or answer.refusal
    return AIMessage(
        content,
        additional_kwargs={"tool_calls": calls} if calls else {},
        response_metadata={"finish_reason": answer.finish_reason},
    )


def raw_tool_calls(message: BaseMessage) -> list[dict[str, Any]]:
    """The calls of an assistant's message in OpenAI's form; none for other messages."""
    if not isinstance(message, AIMessage):
        return []
    return list(message.additional_kwargs.get("tool_calls", []))


def to_wire(messages: Iterable[BaseMessage]) -> list[dict[str, Any]]:
    """As the provider takes them. Each call of a tool has its answer right after it: where a run
    was halted in between, one that says so (providers refuse a call without an answer)."""
    wire: list[dict[str, Any]] = []
    waiting: list[str] = []
    for message in messages:
        if not isinstance(message, ToolMessage):
            wire += _interrupted(waiting)
            waiting = [call["id"] for call in raw_tool_calls(message)]
        elif message.tool_call_id in waiting:
            waiting.remove(message.tool_call_id)
        wire.append(_wire(message))
    return wire + _interrupted(waiting)


def _interrupted(call_ids: Iterable[str]) -> list[dict[str, Any]]:
    return [{"role": "tool", "tool_call_id": i, "content": INTERRUPTED} for i in call_ids]


def _wire(message: BaseMessage) -> dict[str, Any]:
    match message:
        case SystemMessage():
            return {"role": "system", "content": message.text}
        case HumanMessage():
            return {"role": "user", "content": message.text}
        case ToolMessage():
            return {
                "role": "tool",
                "tool_call_id": message.tool_call_id,
                "content": message.text,
            }
        case AIMessage():
            calls = raw_tool_calls(message)
            wire: dict[str, Any] = {"role": "assistant", "content": message.text}
            return wire | ({"tool_calls": calls} if calls else {})
        case _:
            raise TypeError(f"{type(message).__name__} is no message of a thread")


def _is_text(content: chat.UserContent) -> bool:
    return isinstance(content, str) or all(isinstance(part, chat.TextPart) for part in content)


def _text(content: chat.Content | chat.UserContent) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if isinstance(part, chat.TextPart))
