"""The scripted model server: OpenAI's chat completions and embeddings without a model, deterministic.

    python -m tenantplane.dataplane.models.scripted --port 0 [--latency-ms 20] [--tokens-per-second 50]

Serves the demo where no provider's key is given, and the tests. Faults are asked for in the message
(models/script.py), or for the next requests: POST /admin/faults {"fault": "500", "times": 2}.
GET /admin/calls tells what was asked and how each call ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any

import uvicorn

from tenantplane.dataplane.api.asgi import (
    ClientGone,
    Receive,
    Scope,
    Send,
    read_body,
    send_json,
    send_piece,
    start,
    until_client_leaves,
)
from tenantplane.dataplane.models.script import FAULTS, ScriptedAnswer, answer, fault_asked
from tenantplane.dataplane.models.script_embeddings import (
    EMBEDDING_FAULTS,
    embedding_fault,
    embeddings,
)
from tenantplane.dataplane.models.sse import DONE_EVENT, event

MODELS = ("scripted-1",)
RETRY_AFTER_SECONDS = 7
_KEPT_CALLS = 1000
_CREATED = 1_700_000_000
_HUGE = 10**15


class _Cut(Exception):
    """Ends the response in the middle: the server closes the connection."""


@dataclass(slots=True)
class RecordedCall:
    """A call that was served, for tests to look at."""

    body: dict[str, Any]
    tokens_sent: int = 0
    ended: str = "running"  # answered, refused, cut, abandoned (the caller left)


@dataclass(slots=True)
class ScriptedModel:
    """The ASGI application."""

    latency_seconds: float = 0.0
    tokens_per_second: float | None = None  # None: as fast as they can be sent
    faults: list[str] = field(default_factory=list)
    calls: list[RecordedCall] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._route(scope, receive, send)
        except ClientGone:
            return

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["method"], scope["path"]:
            case "POST", "/v1/chat/completions":
                await self._chat(await read_body(receive), receive, send)
            case "POST", "/v1/embeddings":
                await self._embed(await read_body(receive), receive, send)
            case "GET", "/v1/models":
                models = [{"id": m, "object": "model", "owned_by": "scripted"} for m in MODELS]
                await send_json(send, 200, {"object": "list", "data": models}, {})
            case "POST", "/admin/faults":
                await self._add_faults(await read_body(receive), send)
            case "GET", "/admin/calls":
                await send_json(send, 200, [asdict(call) for call in self.calls], {})
            case "GET", "/healthz":
                await send_json(send, 200, {"status": "ok"}, {})
            case _:
                await send_json(send, 404, _error("There is no such route."), {})

    async def _add_faults(self, body: bytes, send: Send) -> None:
        asked = json.loads(body)
        if asked.get("fault") not in FAULTS | EMBEDDING_FAULTS:
            faults = sorted(FAULTS | EMBEDDING_FAULTS)
            await send_json(send, 400, _error(f"Faults are {faults}."), {})
            return
        self.faults += [asked["fault"]] * int(asked.get("times", 1))
        await send_json(send, 200, {"queued": len(self.faults)}, {})

    async def _chat(self, data: bytes, receive: Receive, send: Send) -> None:
        try:
            body = json.loads(data)
            scripted = answer(body)
            fault = self.faults.pop(0) if self.faults else fault_asked(body)
        except (ValueError, LookupError, TypeError, AttributeError):
            await send_json(send, 400, _error("The body is no chat request."), {})
            return
        call = RecordedCall(body)
        self.calls = [*self.calls[1 - _KEPT_CALLS :], call]
        try:
            work = self._serve(call, scripted, fault, send)
            await until_client_leaves(receive, work)
        finally:
            if call.ended == "running":
                call.ended = "abandoned"

    async def _embed(self, data: bytes, receive: Receive, send: Send) -> None:
        try:
            body = json.loads(data)
            fault = self.faults.pop(0) if self.faults else embedding_fault(body)
            answered = embeddings(body, fault)
        except (ValueError, LookupError, TypeError, AttributeError):
            await send_json(send, 400, _error("The body is no embeddings request."), {})
            return
        call = RecordedCall(body)
        self.calls = [*self.calls[1 - _KEPT_CALLS :], call]
        try:
            await until_client_leaves(receive, self._serve_whole(call, answered, fault, send))
        finally:
            if call.ended == "running":
                call.ended = "abandoned"

    async def _serve_whole(
        self, call: RecordedCall, answered: dict[str, Any], fault: str | None, send: Send
    ) -> None:
        await asyncio.sleep(self.latency_seconds)
        if fault == "hang":
            await asyncio.Event().wait()
        if fault in {"400", "429", "500"}:
            call.ended = "refused"
            await _refuse(int(fault), send)
            return
        await send_json(send, 200, answered, {})
        call.ended = "answered"

    async def _serve(
        self, call: RecordedCall, scripted: ScriptedAnswer, fault: str | None, send: Send
    ) -> None:
        await asyncio.sleep(self.latency_seconds)
        if fault == "hang":
            await asyncio.Event().wait()
        if fault in {"400", "429", "500"}:
            call.ended = "refused"
            await _refuse(int(fault), send)
            return
        usage = _usage(call.body, scripted, fault)
        if call.body.get("stream"):
            await self._stream(call, scripted, usage, send, fault)
        elif fault == "cut":
            await start(send, 200, "application/json", {"content-length": "1000"})
            await send_piece(send, b'{"choices": [', more=True)
            call.ended = "cut"
            raise _Cut
        else:
            await asyncio.sleep(self._pause() * len(scripted.tokens))
            await send_json(send, 200, _whole(scripted, usage), {})
        call.ended = "answered"

    async def _stream(
        self,
        call: RecordedCall,
        scripted: ScriptedAnswer,
        usage: dict[str, Any] | None,
        send: Send,
        fault: str | None,
    ) -> None:
        await start(send, 200, "text/event-stream", {"cache-control": "no-store"})
        while fault == "endless":
            await send_piece(send, event(_chunk([_choice({"content": " again"}, None)])))
            await asyncio.sleep(self._pause())
        async for delta in self._deltas(scripted):
            await send_piece(send, event(_chunk([_choice(delta, None)])))
            call.tokens_sent += 1
            if fault == "cut" and call.tokens_sent > len(scripted.tokens) // 2:
                call.ended = "cut"
                raise _Cut
        await send_piece(send, event(_chunk([_choice({}, scripted.finish_reason)])))
        if usage is not None and (call.body.get("stream_options") or {}).get("include_usage"):
            await send_piece(send, event(_chunk([]) | {"usage": usage}))
        await send_piece(send, DONE_EVENT, more=False)

    async def _deltas(self, scripted: ScriptedAnswer) -> AsyncIterator[dict[str, Any]]:
        if scripted.call is not None:
            yield {"role": "assistant", "tool_calls": [_tool_call(scripted, index=0)]}
        for position, token in enumerate(scripted.tokens):
            await asyncio.sleep(self._pause())
            yield {"content": token} | ({"role": "assistant"} if position == 0 else {})

    def _pause(self) -> float:
        return 0.0 if self.tokens_per_second is None else 1 / self.tokens_per_second


async def _refuse(status: int, send: Send) -> None:
    headers = {"retry-after": str(RETRY_AFTER_SECONDS)} if status == 429 else {}
    await send_json(send, status, _error(f"Scripted refusal {status}."), headers)


def _usage(
    body: dict[str, Any], scripted: ScriptedAnswer, fault: str | None
) -> dict[str, Any] | None:
    prompt, output = scripted.prompt_tokens, scripted.output_tokens
    match fault:
        case "usage-none":
            return None
        case "usage-negative":
            prompt = -prompt
        case "usage-huge":
            output = _HUGE
        case "usage-fraction":
            return {"prompt_tokens": prompt + 0.5, "completion_tokens": output}
        case "usage-excess":
            limit = body.get("max_completion_tokens") or body.get("max_tokens") or 0
            output = 2 * int(limit) + 1
    total = prompt + output
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": scripted.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": scripted.reasoning_tokens},
    }


def _whole(scripted: ScriptedAnswer, usage: dict[str, Any] | None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": scripted.text or None}
    if scripted.call is not None:
        message["tool_calls"] = [_tool_call(scripted)]
    choice = {"index": 0, "message": message, "finish_reason": scripted.finish_reason}
    body = _body("chat.completion", [choice])
    return body if usage is None else body | {"usage": usage}


def _tool_call(scripted: ScriptedAnswer, **extra: int) -> dict[str, Any]:
    assert scripted.call is not None
    function = {"name": scripted.call.name, "arguments": scripted.call.arguments}
    # Its place in the conversation makes the id unique there and the same each time.
    return {
        "id": f"call_{scripted.prompt_tokens}",
        "type": "function",
        "function": function,
    } | extra


def _choice(delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def _chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return _body("chat.completion.chunk", choices)


def _body(kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-scripted",
        "object": kind,
        "created": _CREATED,
        "model": MODELS[0],
        "choices": choices,
    }


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "scripted", "param": None, "code": None}}


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted model server, OpenAI-compatible.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one, printed")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--tokens-per-second", type=float, default=None)
    options = parser.parse_args()
    app = ScriptedModel(options.latency_ms / 1000, options.tokens_per_second)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((options.host, options.port))
        print(f"http://{options.host}:{listening.getsockname()[1]}/v1", flush=True)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, ws="none", lifespan="off"
        )
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
