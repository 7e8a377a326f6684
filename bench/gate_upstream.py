"""A model server as fast as Python has it: fixed answers, no work. For benches alone.

    python -m bench.gate_upstream --port 0      prints its port

Plain: one answer of 20 tokens. With `"stream":true`: the same in 20 chunks, all at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any, cast

import uvloop

TOKENS = 20
_HEAD_END = b"\r\n\r\n"
_USAGE = {"prompt_tokens": 12, "completion_tokens": TOKENS, "total_tokens": 12 + TOKENS}


def _whole() -> bytes:
    message = {"role": "assistant", "content": " word" * TOKENS}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps(_body("chat.completion", [choice]) | {"usage": _USAGE}).encode()
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _streamed() -> bytes:
    chunks = [_chunk({"content": " word"}, None) for _ in range(TOKENS)]
    chunks.append(_chunk({}, "stop"))
    usage = _body("chat.completion.chunk", []) | {"usage": _USAGE}
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in (*chunks, usage)] + ["data: [DONE]\n\n"]
    head = (
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return (head + "".join(f"{len(e):x}\r\n{e}\r\n" for e in events) + "0\r\n\r\n").encode()


def _chunk(delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _body("chat.completion.chunk", [choice])


def _body(kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    named = {"id": "chatcmpl-bench", "object": kind, "created": 1, "model": "assistant-1"}
    return named | {"choices": choices}


_WHOLE, _STREAMED = _whole(), _streamed()


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_HEAD_END)) >= 0:
            head = bytes(self._received[:end]).lower()
            _, found, rest = head.partition(b"content-length:")
            whole = end + len(_HEAD_END) + (int(rest.split(b"\r\n", 1)[0]) if found else 0)
            if len(self._received) < whole:
                return
            body = bytes(self._received[end:whole]).replace(b" ", b"")
            del self._received[:whole]
            self._transport.write(_STREAMED if b'"stream":true' in body else _WHOLE)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options.port))


if __name__ == "__main__":
    main()
