"""The same POST twice, through the running gate: done once, answered the same (F42)."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx2
import pytest

from tenantplane.dataplane.gate.request import RequestTenant
from tests.fixtures.document_plane import DocumentPlane
from tests.fixtures.runtime import LARGEST_KEPT_BYTES, AgentPlane, TenantUnderTest, until

pytestmark = pytest.mark.fault("F42")

CHAT = "/v1/chat/completions"
REPLAYED = "idempotent-replayed"


class Caller:
    """A tenant's client that sends raw requests, and counts the calls that the model was asked."""

    def __init__(self, plane: AgentPlane, http: httpx2.AsyncClient) -> None:
        self.plane = plane
        self.http = http

    async def post(
        self, tenant: Any, key: str, body: dict[str, Any] | bytes, path: str = CHAT, **fields: str
    ) -> httpx2.Response:
        return await self.http.post(
            path,
            content=body if isinstance(body, bytes) else json.dumps(body),
            headers=self.fields(tenant, key) | fields,
        )

    def fields(self, tenant: Any, key: str) -> dict[str, str]:
        return {
            "authorization": f"Bearer {tenant.key}",
            "content-type": "application/json",
            "idempotency-key": key,
        }

    def asked(self, about: str) -> int:
        return sum(about in json.dumps(call.body) for call in self.plane.model.app.calls)


@pytest.fixture
async def caller(agent_plane: AgentPlane) -> AsyncIterator[Caller]:
    async with httpx2.AsyncClient(base_url=agent_plane.base_url, timeout=30) as http:
        yield Caller(agent_plane, http)


@pytest.fixture
def tenant(agent_plane: AgentPlane) -> TenantUnderTest:
    return agent_plane.tenant()


@pytest.fixture
def key() -> str:
    return secrets.token_hex(8)


def chat(text: str, model: str = "assistant-1", **changed: object) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **changed}


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def own_fields(answer: httpx2.Response) -> dict[str, str]:
    names = ("content-type", "cache-control")
    return {n: v for n, v in answer.headers.items() if n in names or n.startswith("x-tenantplane")}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", ["assistant-1", "agent/assistant-1"])
async def test_the_same_chat_again_gets_the_same_answer(
    caller: Caller, tenant: TenantUnderTest, key: str, model: str, stream: bool
) -> None:
    body = chat(f"About {key}", model, stream=stream)
    first = await caller.post(tenant, key, body)
    again = await caller.post(tenant, key, body)
    assert first.status_code == 200, first.text
    assert caller.asked(key) == 1
    assert (again.status_code, again.content) == (200, first.content)
    assert own_fields(again) == own_fields(first)
    assert again.headers[REPLAYED] == "true"
    assert REPLAYED not in first.headers
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert len(await caller.plane.outcomes(tenant)) == 1


async def test_the_same_embeddings_again_are_not_made_again(
    caller: Caller, document_plane: DocumentPlane, key: str
) -> None:
    tenant = document_plane.tenant()
    body = {"model": "embedder", "input": f"text {key}"}
    answers = [await caller.post(tenant, key, body, "/v1/embeddings") for _ in range(2)]
    assert [a.status_code for a in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert caller.asked(key) == 1


async def test_a_document_is_put_once(
    caller: Caller, document_plane: DocumentPlane, key: str
) -> None:
    tenant = document_plane.tenant()

    async def put(name: str) -> httpx2.Response:
        return await tenant.http.post(
            "/tp/v1/documents",
            params={"name": name},
            content=f"words about {key}",
            headers={"content-type": "text/plain", "idempotency-key": key},
        )

    first, again = await put("a.txt"), await put("a.txt")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert again.headers[REPLAYED] == "true"
    assert caller.asked(key) == 1
    # What stands in the query is part of the request, and a refusal is a problem document here.
    other = await put("b.txt")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_another_body_with_the_key_is_refused(
    caller: Caller, tenant: TenantUnderTest, key: str
) -> None:
    await caller.post(tenant, key, chat("first"))
    refused = await caller.post(tenant, key, chat(f"second {key}"))
    assert code(refused) == (422, "idempotency_key_reused")
    assert caller.asked(key) == 0


@pytest.mark.parametrize("given", ["x" * 256, "a\tb", ""])
async def test_a_key_that_is_none_is_refused(
    caller: Caller, tenant: TenantUnderTest, given: str
) -> None:
    refused = await caller.post(tenant, given, chat("x"))
    assert code(refused) == (400, "invalid_idempotency_key")


@pytest.mark.req("R5")
async def test_the_same_key_of_another_user_or_org_is_another_request(
    caller: Caller, tenant: TenantUnderTest, key: str
) -> None:
    known = caller.plane.callers.by_key[tenant.key]
    colleague = replace(tenant, key=f"{tenant.key}-2")
    caller.plane.callers.by_key[colleague.key] = RequestTenant(
        replace(known.context, principal="user:u2", user_id="u2"), known.snapshot, known.standing
    )
    body = chat(f"About {key}")
    callers = (tenant, colleague, caller.plane.tenant())
    answers = [await caller.post(who, key, body) for who in callers]
    assert [a.status_code for a in answers] == [200, 200, 200]
    assert not any(REPLAYED in a.headers for a in answers)
    assert caller.asked(key) == 3
    # Nor does one who differs learn by another body that the key is in use (F22).
    other = await caller.post(caller.plane.tenant(), key, chat("something else"))
    assert other.status_code == 200


async def test_while_it_is_served_the_same_is_told_to_come_again(
    caller: Caller, tenant: TenantUnderTest, key: str, paced: Callable[[float], None]
) -> None:
    body = chat(f"[[tokens:120]] {key}", stream=True)
    paced(20)
    async with caller.http.stream(
        "POST", CHAT, json=body, headers=caller.fields(tenant, key)
    ) as streaming:
        pieces = streaming.aiter_bytes()
        began = await anext(pieces)
        content = streaming.request.content
        refused = await caller.post(tenant, key, content)
        assert code(refused) == (409, "request_in_flight")
        assert refused.headers["retry-after"] == "1"
        # It outlives its lease of a second, since its process lives.
        first_lease = await _lease(caller.plane, tenant)

        async def renewed() -> bool:
            return await _lease(caller.plane, tenant) > first_lease

        await until(renewed)
        paced(0)
        rest = b"".join([piece async for piece in pieces])
    again = await caller.post(tenant, key, content)
    assert again.content == began + rest
    assert caller.asked(key) == 1


async def test_a_client_that_left_finds_the_whole_answer(
    caller: Caller, tenant: TenantUnderTest, key: str, paced: Callable[[float], None]
) -> None:
    body = chat(f"[[tokens:40]] {key}", stream=True)
    paced(40)
    async with caller.http.stream(
        "POST", CHAT, json=body, headers=caller.fields(tenant, key)
    ) as streaming:
        await anext(streaming.aiter_bytes())
        content = streaming.request.content
    answer = await _once_served(caller, tenant, key, content)
    assert answer.headers[REPLAYED] == "true"
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert answer.content.count(b" word") == 40
    assert caller.asked(key) == 1


async def test_a_refusal_before_the_first_call_leaves_the_key_free(
    caller: Caller, key: str
) -> None:
    poor = caller.plane.tenant(hard_cap_nanousd=1)
    assert code(await caller.post(poor, key, chat("x")))[0] == 402
    assert code(await caller.post(poor, key, chat("x", temperature=9)))[0] == 400
    assert (await caller.post(poor, key, chat("x", model="unheard-of"))).status_code == 404
    assert await _rows(caller.plane, poor) == []
    level = poor.snapshot.levels[0].model_copy(update={"hard_cap_nanousd": 10**12})
    raised = poor.snapshot.model_copy(update={"version": 2, "levels": (level,)})
    caller.plane.callers.by_key[poor.key] = RequestTenant(poor.context, raised, lambda: raised)
    answer = await caller.post(poor, key, chat("x"))
    assert (answer.status_code, REPLAYED in answer.headers) == (200, False)


async def test_a_failure_after_a_call_is_kept(
    caller: Caller, tenant: TenantUnderTest, key: str
) -> None:
    body = chat(f"[[fault:400]] {key}")
    first = await caller.post(tenant, key, body)
    asked = caller.asked(key)
    again = await caller.post(tenant, key, body)
    assert first.status_code >= 400
    assert asked > 0
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert caller.asked(key) == asked


async def test_an_answer_that_is_too_large_is_not_given_again(
    caller: Caller, tenant: TenantUnderTest, key: str
) -> None:
    body = chat(f"[[tokens:400]] {key}", stream=True)
    first = await caller.post(tenant, key, body)
    assert len(first.content) > LARGEST_KEPT_BYTES
    refused = await caller.post(tenant, key, body)
    assert code(refused) == (409, "response_not_kept")
    assert first.headers["x-tenantplane-run-id"] in refused.json()["error"]["message"]
    assert caller.asked(key) == 1


async def test_kept_answers_are_sealed_and_requests_without_a_key_leave_nothing(
    caller: Caller, tenant: TenantUnderTest, key: str
) -> None:
    await tenant.client.chat.completions.create(**chat("Hello"))
    assert await _rows(caller.plane, tenant) == []
    await caller.post(tenant, key, chat(f"combination of the safe {key}"))
    (row,) = await _rows(caller.plane, tenant)
    assert (row["principal"], row["route"], row["status"]) == ("key:k1", CHAT, "done")
    assert b"safe" not in bytes(row["response"])


async def test_of_many_at_once_one_is_served(
    caller: Caller, tenant: TenantUnderTest, key: str
) -> None:
    body = chat(f"About {key}")
    answers = await asyncio.gather(*(caller.post(tenant, key, body) for _ in range(40)))
    served = [a for a in answers if a.status_code == 200 and REPLAYED not in a.headers]
    assert len(served) == 1
    assert {a.content for a in answers if a.status_code == 200} == {served[0].content}
    assert {code(a)[1] for a in answers if a.status_code != 200} <= {"request_in_flight"}
    assert caller.asked(key) == 1


@pytest.fixture
async def paced(agent_plane: AgentPlane) -> AsyncIterator[Callable[[float], None]]:
    """Sets the model's tokens a second; 0 is as fast as it can."""

    def pace(tokens_per_second: float) -> None:
        agent_plane.model.app.tokens_per_second = tokens_per_second or None

    yield pace
    pace(0)


async def _once_served(
    caller: Caller, tenant: TenantUnderTest, key: str, content: bytes
) -> httpx2.Response:
    answers: list[httpx2.Response] = []

    async def served() -> bool:
        answers.append(await caller.post(tenant, key, content))
        return answers[-1].status_code != 409

    await until(served, 10)
    return answers[-1]


async def _rows(plane: AgentPlane, tenant: TenantUnderTest) -> list[dict[str, Any]]:
    async with plane.database.tenant_tx(tenant.org_id) as cursor:
        await cursor.execute("SELECT * FROM dataplane.request WHERE org_id = %s", (tenant.org_id,))
        return await cursor.fetchall()


async def _lease(plane: AgentPlane, tenant: TenantUnderTest) -> datetime:
    (row,) = await _rows(plane, tenant)
    lease: datetime = row["lease_until"]
    return lease
