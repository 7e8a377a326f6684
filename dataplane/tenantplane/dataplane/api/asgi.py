"""Plain ASGI for the hot path: read a body, send a body, notice a client that left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any

import orjson

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


class ClientGone(Exception):
    """The client closed the connection: there is nobody to answer."""


async def read_body(receive: Receive) -> bytes:
    """The whole body; the gate bounds its size. Raises ClientGone."""
    pieces: list[bytes] = []
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGone
        pieces.append(event.get("body", b""))
        if not event.get("more_body", False):
            return b"".join(pieces)


async def until_client_leaves(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Runs `work`, and cancels it when the client leaves; returns when it has come to its end.

    The body must have been read: `receive` then answers with the disconnect alone.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
        if not working.cancelled():
            working.result()
    finally:
        watching.cancel()
        if not working.done():
            # Cancelled from outside (shutdown): the request is over when its work has settled.
            working.cancel()
            await asyncio.wait({working})


def start(
    send: Send, status: int, content_type: str, headers: Mapping[str, str]
) -> Awaitable[None]:
    fields = [(b"content-type", content_type.encode("latin-1"))]
    for name, value in headers.items():
        fields.append((name.encode("latin-1"), value.encode("latin-1")))
    return send({"type": "http.response.start", "status": status, "headers": fields})


async def send_json(send: Send, status: int, body: Any, headers: Mapping[str, str]) -> None:
    data = json_bytes(body)
    await start(send, status, "application/json", {"content-length": str(len(data)), **headers})
    await send({"type": "http.response.body", "body": data})


def json_bytes(body: Any) -> bytes:
    """JSON in UTF-8, without spaces."""
    try:
        return orjson.dumps(body)
    except TypeError:  # what JSON has and orjson not: a lone surrogate, an integer past 64 bits
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "replace"
        )


async def send_piece(send: Send, piece: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": more})


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
