"""However an application ends, its request with a key is not run again unless nothing was done."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tenantplane.core.errors import (
    DependencyUnavailable,
    InvalidInput,
    NotFound,
    RateLimited,
    TenantplaneError,
)
from tenantplane.core.valkey.answers import Reason, Refused
from tenantplane.dataplane.gate.asgi import Application, Gate
from tenantplane.dataplane.gate.idempotency import Idempotency
from tenantplane.dataplane.gate.idempotency_settings import IdempotencySettings
from tenantplane.dataplane.gate.identity import Identity
from tenantplane.dataplane.gate.readiness import ReadinessProbe
from tenantplane.dataplane.gate.refusals import KnownRefusals
from tenantplane.dataplane.gate.request import RequestTenant, place_tenant
from tenantplane.dataplane.ledger.requests import RequestJournal
from tests.fixtures.ledger import Ledger, a_snapshot, a_tenant

pytestmark = pytest.mark.fault("F42")

Message = MutableMapping[str, Any]
LIMIT = 3


@dataclass
class Once:
    """One org's requests through Idempotency, with a key that each test has for itself."""

    requests: RequestJournal
    idempotency: Idempotency
    refusals: KnownRefusals
    tenant: RequestTenant
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    runs: int = 0

    async def ask(self, application: Application, *, body: bytes | None = b"{}") -> list[Message]:
        """What was sent. `body` None: the client leaves before it has sent all."""
        scope: dict[str, Any] = {
            "method": "POST",
            "path": "/v1/x",
            "query_string": b"",
            "headers": [],
        }
        place_tenant(scope, self.tenant)
        sent: list[Message] = []

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self.runs += 1
            await application(scope, receive, send)

        async def receive() -> Message:
            if body is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.idempotency.serve(counted, self.key, scope, receive, send)
        return sent

    async def told_again(self) -> str:
        """What whoever asks again is told; it must not be run."""
        runs = self.runs
        try:
            sent = await self.ask(answers(200))
        except TenantplaneError as refused:
            assert self.runs == runs
            return refused.error_code
        return str(sent[0]["status"]) if self.runs == runs else "run"


@pytest.fixture
async def once(ledger: Ledger, new_org: str) -> AsyncIterator[Once]:
    requests = RequestJournal(ledger.database, lease_seconds=600, keep_seconds=600)
    await requests.start()
    refusals = KnownRefusals()
    snapshot = a_snapshot(new_org, requests_per_minute=LIMIT)
    yield Once(
        requests,
        Idempotency(requests, ledger.meter.keys, refusals, IdempotencySettings()),
        refusals,
        RequestTenant(a_tenant(new_org), snapshot, lambda: snapshot),
    )
    await requests.stop()


def answers(
    status: int, body: bytes = b"{}", *, then: Exception | None = None, more: bool = False
) -> Application:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body, "more_body": more})
        if then is not None:
            raise then

    return application


def fails(error: Exception) -> Application:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise error

    return application


async def silent(scope: Any, receive: Any, send: Any) -> None:
    return


@pytest.mark.parametrize(
    ("application", "told"),
    [
        (answers(200), "200"),
        (answers(503), "run"),
        (answers(500, then=RuntimeError()), "500"),
        (answers(200, more=True), "request_interrupted"),
        (answers(200, more=True, then=RuntimeError()), "request_interrupted"),
        (answers(200, more=True, then=NotFound("-")), "request_interrupted"),
        (silent, "request_interrupted"),
        (fails(RuntimeError()), "request_interrupted"),
        (fails(TenantplaneError("-")), "request_interrupted"),
        (fails(InvalidInput("-")), "run"),
        (fails(DependencyUnavailable("-")), "run"),
    ],
    ids=[
        "answers",
        "refuses",
        "fails, answered by its framework",
        "stops in mid-answer",
        "fails in mid-answer",
        "is refused in mid-answer",
        "answers nothing",
        "fails",
        "fails by name",
        "refuses by an error",
        "has no store",
    ],
)
async def test_what_whoever_asks_again_is_told(
    once: Once, application: Application, told: str
) -> None:
    with suppress(RuntimeError, TenantplaneError):  # the gate's to answer
        await once.ask(application)
    assert once.runs == 1
    assert await once.told_again() == told


async def test_one_that_is_cut_by_the_end_of_its_process_is_interrupted(once: Once) -> None:
    began = asyncio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        began.set()
        await receive()
        await receive()  # nobody is told that a client left

    asking = asyncio.create_task(once.ask(endless))
    await began.wait()
    assert await once.told_again() == "request_in_flight"
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert await once.told_again() == "request_interrupted"


async def test_an_answer_that_cannot_be_kept_goes_out_and_is_not_made_again(
    once: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DependencyUnavailable("Postgres is away.")

    monkeypatch.setattr(once.requests, "keep", away)
    sent = await once.ask(answers(200, b"all of it"))
    assert [m.get("body") for m in sent] == [None, b"all of it"]
    assert await once.told_again() == "request_in_flight"


async def test_the_end_of_an_answer_waits_until_it_is_kept(
    once: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, sent_when_kept = once.requests.keep, []

    async def watched(*arguments: Any) -> None:
        sent_when_kept.append(list(sent))
        await keep(*arguments)

    sent: list[str] = []

    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"first", b"second"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            sent.append(piece.decode())
        await send({"type": "http.response.body", "body": b"last"})

    monkeypatch.setattr(once.requests, "keep", watched)
    messages = await once.ask(streams)
    assert sent_when_kept == [["first", "second"]]
    assert [m.get("body", b"") for m in messages] == [b"", b"first", b"second", b"last"]
    replayed = await once.ask(streams)
    assert [m.get("body", b"") for m in replayed] == [b"", b"firstsecondlast"]


async def test_a_client_that_leaves_before_it_has_sent_all_has_asked_for_nothing(
    once: Once,
) -> None:
    assert await once.ask(answers(200), body=None) == []
    assert once.runs == 0
    assert await once.told_again() == "run"


@pytest.mark.req("R7")
async def test_whoever_is_over_its_quota_gets_no_claim(once: Once) -> None:
    org_id = once.tenant.context.org_id
    full = Refused(Reason.REQUESTS, "org", org_id, limit=LIMIT, used=LIMIT, retry_after_ms=30_000)
    once.refusals.remember(full, asked_at=once.refusals.now())
    with pytest.raises(RateLimited):
        await once.ask(answers(200))
    assert once.runs == 0


async def test_a_gate_that_keeps_no_answers_refuses_the_key() -> None:
    class Known:
        async def tenant(self, _: object) -> RequestTenant:
            snapshot = a_snapshot("acme")
            return RequestTenant(a_tenant("acme"), snapshot, lambda: snapshot)

    gate = Gate(
        cast("Identity", Known()),
        [("/v1/", answers(200)), ("/tp/v1/", answers(200))],
        cast("ReadinessProbe", None),
        body_limit_bytes=1000,
    )
    for path in ("/v1/embeddings", "/tp/v1/documents"):
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(b"idempotency-key", b"1")],
        }
        sent: list[Message] = []

        async def send(message: Message, sent: list[Message] = sent) -> None:
            sent.append(message)

        await gate(scope, cast("Any", None), send)
        assert sent[0]["status"] == 400
        assert b"idempotency_not_served" in sent[1]["body"]
