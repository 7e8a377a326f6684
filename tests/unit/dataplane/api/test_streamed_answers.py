"""What of a streamed answer is written when."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any, cast

from tenantplane.core.ids import new_id
from tenantplane.dataplane.api.asgi import Event
from tenantplane.dataplane.api.chat_bodies import Naming
from tenantplane.dataplane.api.openai import _Answer
from tenantplane.dataplane.ledger.calls import Receipt
from tenantplane.dataplane.models.accounting import MeteredRun
from tenantplane.dataplane.models.answer import Answer
from tenantplane.dataplane.models.calls import Completed, Piece
from tenantplane.dataplane.models.chat import ChatRequest
from tenantplane.dataplane.models.prices import TokenCount


def piece(text: str, *, followed: bool) -> Piece:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return Piece(chunk, text, followed)


async def written(items: Sequence[Piece | Completed]) -> list[bytes]:
    """The bodies, in the order that they were sent in."""
    sent: list[bytes] = []

    async def send(event: Event) -> None:
        if event["type"] == "http.response.body":
            sent.append(event["body"])

    async def pieces() -> AsyncGenerator[Piece | Completed, None]:
        for item in items:
            yield item

    nothing: dict[str, Any] = {"record_ids": [], "windows": (), "failed_attempts": []}
    run = SimpleNamespace(
        **nothing,
        run_id=new_id(),
        answered_by=None,
        cost_nanousd=0,
        clamped_to=None,
        thread_id=None,
    )
    request = ChatRequest.model_validate(
        {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    )
    naming = Naming(new_id(), "m", 0)
    await _Answer(send, request, cast("MeteredRun", run), naming).stream(pieces())
    return sent


async def test_pieces_that_came_together_are_passed_on_together() -> None:
    receipt = Receipt(new_id(), new_id(), cast("Any", 0))
    end = Completed(Answer(finish_reason="stop"), TokenCount(1, 1), receipt, {})
    sent = await written(
        [
            piece("one", followed=False),
            piece("two", followed=True),
            piece("three", followed=False),
            end,
        ]
    )
    texts = [[word for word in (b"one", b"two", b"three") if word in body] for body in sent]
    assert texts == [[b"one"], [b"two", b"three"], [], []]
    assert sent[-1].endswith(b"data: [DONE]\n\n")


async def test_what_waits_for_a_piece_that_never_comes_is_written_at_the_end() -> None:
    receipt = Receipt(new_id(), new_id(), cast("Any", 0))
    end = Completed(Answer(finish_reason="length"), TokenCount(1, 1), receipt, {})
    sent = await written([piece("one", followed=True), end])
    assert sent[0].startswith(b"data: ")
    assert b"one" in sent[0]
