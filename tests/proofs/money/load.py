"""Sixteen callers at work: plain answers, streams, streams that are left, agents with a tool."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.proofs.money.deployment import Deployment, Replica
from tests.proofs.money.tenants import EXCEEDED, Caller, Tenants

CALLERS: Final = 16
REQUESTS: Final = 200
# Refusals, and dependencies that are away. Anything else is an answer that nobody should get.
EXPECTED: Final = frozenset({200, 402, 429, 503})
_PAUSE_SECONDS: Final = (0.01, 0.1)
_KINDS: Final = ("plain",) * 8 + ("stream",) * 5 + ("left",) * 3 + ("agent",) * 3 + ("huge",)


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered with 200 to its very end, and what the answer said of itself."""

    org_id: str
    run_id: str
    record_ids: tuple[str, ...]
    cost_nanousd: int


@dataclass
class Load:
    """What came of the requests. `broken`: the connection ended in mid-request."""

    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    answered: list[Answered] = field(default_factory=list)
    broken: int = 0
    unexpected: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.statuses.total() + self.broken

    @property
    def refused(self) -> int:
        return self.statuses[402] + self.statuses[429]


@asynccontextmanager
async def under_load(deployment: Deployment, tenants: Tenants, seed: int) -> AsyncIterator[Load]:
    """Load for as long as the block runs, and until REQUESTS were made."""
    load, ended = Load(), asyncio.Event()
    callers = [
        asyncio.create_task(_call(deployment, tenants, load, random.Random(f"{seed} {n}"), ended))
        for n in range(CALLERS)
    ]
    try:
        yield load
    finally:
        ended.set()
        await asyncio.gather(*callers)


async def _call(
    deployment: Deployment, tenants: Tenants, load: Load, dice: random.Random, ended: asyncio.Event
) -> None:
    while not ended.is_set() or load.requests < REQUESTS:
        replica = dice.choice(deployment.replicas)
        kind, caller = dice.choice(_KINDS), dice.choice(tenants.callers)
        try:
            await _request(deployment, replica, load, kind, caller, dice)
            load.kinds[kind] += 1
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            pass  # nobody listens there: no request
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            load.broken += 1
        await asyncio.sleep(dice.uniform(*_PAUSE_SECONDS))


async def _request(
    deployment: Deployment,
    replica: Replica,
    load: Load,
    kind: str,
    caller: Caller,
    dice: random.Random,
) -> None:
    body = _body(kind, caller, dice)
    headers = {"authorization": f"Bearer {caller.secret}"}
    url = replica.base_url + "/v1/chat/completions"
    async with deployment.http.post(url, json=body, headers=headers) as answer:
        load.statuses[answer.status] += 1
        if answer.status not in EXPECTED:
            load.unexpected.append(f"{kind} {answer.status}: {(await answer.text())[:500]}")
        elif answer.status != 200:
            await answer.read()
        elif body["stream"]:
            await _read_stream(answer, load, caller, leave_after=_leaves(kind, dice))
        else:
            await answer.read()
            load.answered.append(
                Answered(
                    caller.org_id,
                    answer.headers["x-tenantplane-run-id"],
                    tuple(answer.headers["x-tenantplane-audit-records"].split(",")),
                    int(answer.headers["x-tenantplane-cost-nanousd"]),
                )
            )


def _body(kind: str, caller: Caller, dice: random.Random) -> dict[str, Any]:
    tokens = dice.randint(5, 40)
    said = f"[[org:{caller.org_id}]] [[tokens:{tokens}]]"
    body: dict[str, Any] = {"model": "assistant-1", "stream": kind in ("stream", "left")}
    body["max_tokens"] = 40
    if kind == "agent":
        body["model"] = "agent/assistant-1"
        said = f"[[org:{caller.org_id}]] What time is it in Asia/Tokyo?"
    elif kind == "huge":
        body["max_tokens"] = 1_000_000
    elif kind == "plain" and caller.org_id.endswith(EXCEEDED):
        said += " [[fault:usage-excess]]"
    return body | {"messages": [{"role": "user", "content": said}]}


def _leaves(kind: str, dice: random.Random) -> int | None:
    return dice.randint(1, 8) if kind == "left" else None


async def _read_stream(
    answer: aiohttp.ClientResponse, load: Load, caller: Caller, leave_after: int | None
) -> None:
    note: dict[str, Any] | None = None
    events = 0
    async for line in answer.content:
        if line.startswith(b": tenantplane "):
            note = json.loads(line.removeprefix(b": tenantplane "))
        events += line.startswith(b"data: ")
        if leave_after is not None and events >= leave_after:
            answer.close()
            return
        if line == b"data: [DONE]\n" and note is not None:
            load.answered.append(
                Answered(
                    caller.org_id,
                    note["run_id"],
                    tuple(note["audit_records"]),
                    note["cost_nanousd"],
                )
            )
    with suppress(aiohttp.ClientError):
        await answer.read()
