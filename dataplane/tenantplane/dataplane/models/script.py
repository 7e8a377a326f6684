"""What the scripted model answers: a pure function of the request. No model, no randomness.

Cues in the last user message:
    [[call:clock {"time_zone": "Asia/Tokyo"}]]   calls that function, offered or not
    [[loop]]                                      calls the first tool offered, for ever
    [[tokens:500]]                                answers with so many tokens
    [[reasoning:300]]                             thinks so many tokens before, unseen
    [[cached:40]]                                 says that it had so many prompt tokens cached
    [[fault:NAME]]                                a fault, see FAULTS
Without a cue: asked for the time it calls `clock`, told to note or remember `notes_write`, asked
what it noted `notes_read`, what the documents say `documents_search`, how many calls there were or
what they cost `sql_query`, each only where the function is offered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

FAULTS: Final = frozenset(
    {
        "400",  # the provider refuses the request
        "429",  # its rate limit, with retry-after: 7
        "500",
        "hang",  # never answers
        "endless",  # streams for ever, whatever limit it was given
        "no-limit",  # answers with all tokens, whatever limit it was given
        "cut",  # closes the connection in mid-answer
        "usage-none",
        "usage-negative",
        "usage-fraction",
        "usage-huge",
        "usage-excess",  # more than was asked for, and believable
    }
)

_FAULT = re.compile(r"\[\[fault:([a-z0-9-]+)\]\]")
_CALL = re.compile(r"\[\[call:([A-Za-z0-9_.-]+)\s*(\{.*?\})?\s*\]\]", re.DOTALL)
_TOKENS = re.compile(r"\[\[tokens:(\d{1,6})\]\]")
_REASONING = re.compile(r"\[\[reasoning:(\d{1,6})\]\]")
_CACHED = re.compile(r"\[\[cached:(\d{1,6})\]\]")
_LOOP = "[[loop]]"
_CUE = re.compile(r"\[\[.*?\]\]", re.DOTALL)
# About the length of tokens in English, and never shorter than a byte.
_TOKEN = re.compile(r"\s*\w{1,6}|\s*[^\w\s]|\s+")
_WRITE = re.compile(
    r"^\s*(?:please\s+)?(?:note|remember)(?:\s+that)?[:\s]+(?P<text>.+)", re.I | re.S
)
_READ = re.compile(r"\bwhat\b.*\b(?:note|noted|notes|remember)\b", re.I | re.S)
_TIME = re.compile(r"\b(?:time|o'clock|clock)\b", re.I)
_ZONE = re.compile(r"\b([A-Z][A-Za-z]+/[A-Z][A-Za-z_]+)\b")
_DOCUMENTS = re.compile(r"\b(?:documents?|handbook|manual)\b", re.I)
_USAGE = re.compile(r"\bhow (?:many|much)\b.*\b(?:calls?|cost|costs|spent)\b", re.I | re.S)
_USAGE_QUERY: Final = (
    "SELECT kind, name, count(*) AS calls, sum(cost_usd) AS usd FROM calls GROUP BY kind, name "
    "ORDER BY calls DESC, name LIMIT 10"
)
_MESSAGE_TOKENS = 4
# OpenAI's for a picture of 1024 pixels square.
_IMAGE_TOKENS = 765


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """Text in tokens, or one call of a tool."""

    tokens: tuple[str, ...]
    call: ScriptedCall | None
    prompt_tokens: int
    finish_reason: str
    reasoning_tokens: int = 0
    cached_tokens: int = 0

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def output_tokens(self) -> int:
        if self.call is None:
            return self.reasoning_tokens + len(self.tokens)
        return self.reasoning_tokens + len(tokenize(self.call.name + self.call.arguments))


def tokenize(text: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(text))


def fault_asked(body: Mapping[str, Any]) -> str | None:
    """The fault of a cue in the last user message."""
    found = _FAULT.search(_last_user(body["messages"]))
    return found.group(1) if found and found.group(1) in FAULTS else None


def answer(body: Mapping[str, Any]) -> ScriptedAnswer:
    """The answer to a request, its limit of tokens kept."""
    messages: Sequence[Mapping[str, Any]] = body["messages"]
    call = _call(messages, _offered(body))
    tokens = tokenize("" if call else _words(messages))
    reasoning = _number(_REASONING, messages)
    limit = _limit(body) or reasoning + len(tokens)
    reasoning = min(reasoning, limit)
    left = limit - reasoning
    reason = "tool_calls" if call else "length" if left < len(tokens) else "stop"
    prompt = _prompt_tokens(body)
    cached = min(prompt, _number(_CACHED, messages))
    return ScriptedAnswer(tokens[:left], call, prompt, reason, reasoning, cached)


def _limit(body: Mapping[str, Any]) -> int | None:
    if fault_asked(body) == "no-limit":
        return None
    return body.get("max_completion_tokens") or body.get("max_tokens")


def _number(cue: re.Pattern[str], messages: Sequence[Mapping[str, Any]]) -> int:
    found = cue.search(_last_user(messages))
    return int(found.group(1)) if found else 0


def _call(messages: Sequence[Mapping[str, Any]], offered: Sequence[str]) -> ScriptedCall | None:
    asked = _last_user(messages)
    if _LOOP in asked:
        return ScriptedCall(offered[0], "{}") if offered else None
    if messages[-1]["role"] == "tool":
        return None
    if cue := _CALL.search(asked):
        return ScriptedCall(cue.group(1), cue.group(2) or "{}")
    return _plain_call(asked, offered)


def _plain_call(asked: str, offered: Sequence[str]) -> ScriptedCall | None:
    if "notes_read" in offered and _READ.search(asked):
        return ScriptedCall("notes_read", "{}")
    if "notes_write" in offered and (note := _WRITE.match(asked)):
        return ScriptedCall("notes_write", json.dumps({"text": note.group("text").strip()}))
    if "documents_search" in offered and _DOCUMENTS.search(asked):
        return ScriptedCall("documents_search", json.dumps({"query": asked[:1000]}))
    if "sql_query" in offered and _USAGE.search(asked):
        return ScriptedCall("sql_query", json.dumps({"source": "usage", "sql": _USAGE_QUERY}))
    if "clock" in offered and _TIME.search(asked):
        zone = _ZONE.search(asked)
        return ScriptedCall("clock", json.dumps({"time_zone": zone.group(1)} if zone else {}))
    return None


def _words(messages: Sequence[Mapping[str, Any]]) -> str:
    last = messages[-1]
    if last["role"] == "tool":
        return f"The tool says: {_content(last)}"
    asked = _last_user(messages)
    if wanted := _TOKENS.search(asked):
        return " word" * int(wanted.group(1))
    return f"Scripted answer to: {_CUE.sub('', asked).strip()}"


def _offered(body: Mapping[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in body.get("tools") or ()]


def _last_user(messages: Sequence[Mapping[str, Any]]) -> str:
    return next((_content(m) for m in reversed(messages) if m["role"] == "user"), "")


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    said = sum(len(tokenize(_content(m))) + _MESSAGE_TOKENS for m in body["messages"])
    said += _IMAGE_TOKENS * sum(_images(m) for m in body["messages"])
    return said + len(tokenize(json.dumps(body["tools"]))) if body.get("tools") else said


def _images(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    return sum(p["type"] == "image_url" for p in content) if isinstance(content, list) else 0
