"""A data plane's gate with the OpenAI API behind it, asked without a socket: for proofs that kill it,
or ask it a thousand times at once. Only who is asking is settled beforehand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic import HttpUrl

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.db.pool import Database
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.api.openai import OpenAIApi
from tenantplane.dataplane.gate.asgi import Gate
from tenantplane.dataplane.gate.idempotency import Idempotency
from tenantplane.dataplane.gate.idempotency_settings import IdempotencySettings
from tenantplane.dataplane.gate.identity import Identity
from tenantplane.dataplane.gate.readiness import ReadinessProbe
from tenantplane.dataplane.gate.request import RequestTenant
from tenantplane.dataplane.ledger.meter import Meter
from tenantplane.dataplane.ledger.requests import RequestJournal
from tenantplane.dataplane.models.providers import Providers, ProviderSettings
from tenantplane.dataplane.runtime.memory import Memory
from tests.fixtures.ledger import a_snapshot, a_tenant

MODEL: Final = "assistant-1"
# Scaled down, so that a dead process's lease runs out while the test waits for it.
LEASE_SECONDS: Final = 1.0
_GRANT: Final = ModelGrant(
    name=MODEL,
    provider="scripted",
    upstream_model="scripted-1",
    input_nanousd_per_token=10,
    output_nanousd_per_token=40,
    max_output_tokens=200,
    context_tokens=100_000,
)


@dataclass(frozen=True)
class Answered:
    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])

    @property
    def replayed(self) -> bool:
        return "idempotent-replayed" in self.fields


@dataclass(frozen=True)
class SmallPlane:
    gate: Gate

    async def chat(self, text: str, key: str | None, *, stream: bool = False) -> Answered:
        """As POST /v1/chat/completions; it waits for the end of the answer."""
        messages = [{"role": "user", "content": text}]
        body = json.dumps({"model": MODEL, "messages": messages, "stream": stream}).encode()
        fields = [(b"idempotency-key", key.encode())] if key else []
        return await self._post("/v1/chat/completions", body, fields)

    async def _post(self, path: str, body: bytes, fields: list[tuple[bytes, bytes]]) -> Answered:
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": fields,
        }
        await self.gate(scope, receive, send)
        start, *pieces = sent
        return Answered(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(piece.get("body", b"") for piece in pieces),
        )


class _OneCaller:
    """Stands where the gate's identity does."""

    def __init__(self, context: TenantContext) -> None:
        snapshot = a_snapshot(context.org_id).model_copy(update={"models": (_GRANT,)})
        self._tenant = RequestTenant(context, snapshot, lambda: snapshot)

    async def tenant(self, _: object) -> RequestTenant:
        return self._tenant


@asynccontextmanager
async def small_plane(
    database: Database,
    meter: Meter,
    requests: RequestJournal,
    org_id: str,
    model_url: str,
) -> AsyncIterator[SmallPlane]:
    """`meter` is started; `requests` is started and stopped here."""
    async with AsyncExitStack() as opened:
        providers = Providers({"scripted": ProviderSettings(base_url=HttpUrl(model_url))})
        opened.push_async_callback(providers.close)
        await providers.open()
        memory = Memory(database, meter.keys)
        opened.push_async_callback(memory.stop)
        await memory.start()
        opened.push_async_callback(requests.stop)
        await requests.start()
        api = OpenAIApi(meter=meter, memory=memory, providers=providers, database=database)
        gate = Gate(
            cast("Identity", _OneCaller(a_tenant(org_id))),
            [("/v1/", api)],
            cast("ReadinessProbe", None),
            body_limit_bytes=1_000_000,
            idempotency=Idempotency(
                requests,
                meter.keys,
                meter.refusals,
                IdempotencySettings(lease_seconds=LEASE_SECONDS),
            ),
        )
        yield SmallPlane(gate)


def request_journal(
    database: Database, kind: type[RequestJournal] = RequestJournal
) -> RequestJournal:
    return kind(database, lease_seconds=LEASE_SECONDS, keep_seconds=3600)
