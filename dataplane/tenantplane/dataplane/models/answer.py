"""A model's answer as it comes in, whole or in chunks: its text, its tool calls, its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from tenantplane.dataplane.models.vocabularies import Vocabulary, count_written, utf8_bytes

MAX_TOOL_CALLS = 128
_TEXT_ALONE = frozenset({"role", "content"})


@dataclass(slots=True)
class ToolCallAnswer:
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Answer:
    """What a model produced. `produced_bytes` counts UTF-8 of all that it wrote, and
    `produced_tokens` about its tokens: see `count_written`."""

    vocabulary: Vocabulary | None = None
    content: str = ""
    refusal: str = ""
    tool_calls: list[ToolCallAnswer] = field(default_factory=list)
    finish_reason: str = ""
    produced_bytes: int = 0
    produced_tokens: int = 0
    content_chunks: int = 0
    usage: object = None

    def add_chunk(self, chunk: Mapping[str, Any]) -> str:
        """Takes a chunk of a stream; returns the text that it adds to the content."""
        if chunk.get("usage") is not None:
            self.usage = chunk["usage"]
        choice = _first_choice(chunk)
        return self._add(choice, choice.get("delta"))

    def add_whole(self, completion: Mapping[str, Any]) -> None:
        """Takes an answer that came in one piece."""
        self.usage = completion.get("usage")
        choice = _first_choice(completion)
        self._add(choice, choice.get("message"))

    def audit(self) -> dict[str, JsonValue]:
        """The answer as the audit record keeps it."""
        record: dict[str, JsonValue] = {"content": self.content}
        if self.refusal:
            record["refusal"] = self.refusal
        if self.tool_calls:
            record["tool_calls"] = [
                {"id": c.id, "name": c.name, "arguments": c.arguments} for c in self.tool_calls
            ]
        return record | {"finish_reason": self.finish_reason or None}

    def _add(self, choice: Mapping[str, Any], part: object) -> str:
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
        if not isinstance(part, dict):
            return ""
        text = _text(part.get("content"))
        self.content += text
        written = text if part.keys() <= _TEXT_ALONE else text + self._add_others(part)
        if written:
            self.produced_bytes += utf8_bytes(written)
            self.produced_tokens += count_written(written, self.vocabulary)
            self.content_chunks += 1
        return text

    def _add_others(self, part: Mapping[str, Any]) -> str:
        """What is written besides the content."""
        refusal = _text(part.get("refusal"))
        self.refusal += refusal
        # Providers call it by either name; it is billed as output though it is not part of it.
        reasoning = _text(part.get("reasoning_content")) + _text(part.get("reasoning"))
        return refusal + reasoning + self._add_tool_calls(part.get("tool_calls"))

    def _add_tool_calls(self, calls: object) -> str:
        if not isinstance(calls, list):
            return ""
        written = ""
        for position, call in enumerate(calls):
            if not isinstance(call, dict):
                continue
            index = call.get("index", position)
            if type(index) is not int or not 0 <= index < MAX_TOOL_CALLS:
                continue
            while len(self.tool_calls) <= index:
                self.tool_calls.append(ToolCallAnswer())
            written += _extend(self.tool_calls[index], call)
        return written


def _extend(answer: ToolCallAnswer, call: Mapping[str, Any]) -> str:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    answer.id = answer.id or _text(call.get("id"))
    name, arguments = _text(function.get("name")), _text(function.get("arguments"))
    answer.name += name
    answer.arguments += arguments
    return name + arguments


def _first_choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    # `dict`, which is what JSON is read as: to ask for any Mapping takes ten times as long.
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    return {}


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    # A lone surrogate is legal in JSON and in nothing that stores it.
    return value if value.isascii() else value.encode("utf-8", "replace").decode()
