"""Requests with one Idempotency-Key are run once at most, whoever dies, and however many ask."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.fixtures.ledger import Ledger, MakeLedger
from tests.fixtures.models import ScriptedServer
from tests.fixtures.proofs import ProofCases
from tests.proofs.money.dying_requests import GAPS
from tests.proofs.money.small_plane import Answered, SmallPlane, request_journal, small_plane

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.proof, pytest.mark.fault("F42")]

# How often the model was asked by the process that died.
ASKED = {"call_to_outcome": 1, "outcome_to_settle": 1, "settled_to_kept": 1, "kept_to_answered": 1}
Kill = Callable[[dict[str, object]], Awaitable[signal.Signals]]


@pytest.fixture(scope="module")
async def kill() -> AsyncIterator[Kill]:
    """Runs a request in a process of its own; answers how that process died."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.proofs.money.dying_requests",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    answers, orders_to = process.stdout, process.stdin

    async def killed(orders: dict[str, object]) -> signal.Signals:
        orders_to.write(json.dumps(orders).encode() + b"\n")
        return signal.Signals(int(await asyncio.wait_for(answers.readline(), 60)))

    yield killed
    orders_to.close()
    await process.wait()


@pytest.mark.fault("F37")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("gap", GAPS)
async def test_a_kill_at_any_gap_never_lets_a_request_run_twice(
    ledger: Ledger,
    scripted_model: ScriptedServer,
    kill: Kill,
    new_org: str,
    gap: str,
    stream: bool,
    proof_cases: ProofCases,
) -> None:
    key, text = secrets.token_hex(8), f"About {new_org}"

    def asked() -> int:
        return sum(text in json.dumps(call.body) for call in scripted_model.app.calls)

    orders = _orders(ledger, scripted_model)
    died = await kill(
        orders | {"org": new_org, "gap": gap, "text": text, "key": key, "stream": stream}
    )
    assert died is signal.SIGKILL
    before = asked()
    assert before == ASKED.get(gap, 0)

    async with AsyncExitStack() as opened:
        plane = await _replica(opened, ledger, new_org, scripted_model)
        answers = [await plane.chat(text, key, stream=stream)]
        while answers[-1].status == 409 and answers[-1].code == "request_in_flight":
            await asyncio.sleep(0.05)
            answers.append(await plane.chat(text, key, stream=stream))
        last = answers[-1]
        if gap == "before_claim":
            assert (last.status, last.replayed, asked()) == (200, False, 1)
        elif gap == "kept_to_answered":
            assert (last.status, last.replayed, len(answers)) == (200, True, 1)
            assert last.body.endswith(b"data: [DONE]\n\n" if stream else b"}")
        else:
            assert (last.status, last.code) == (409, "request_interrupted")
            assert await _run_of(ledger, new_org) in last.body.decode()
        # However often it is asked again: the same, and no call.
        again = await plane.chat(text, key, stream=stream)
        assert (again.status, again.body) == (last.status, last.body)
        assert asked() == max(before, gap == "before_claim")
        # Under a new key it is run.
        fresh = await plane.chat(text, key + "-2", stream=stream)
        assert (fresh.status, fresh.replayed) == (200, False)
    proof_cases.add()


async def test_of_a_thousand_at_once_in_two_processes_one_is_run(
    ledger: Ledger, scripted_model: ScriptedServer, new_org: str, proof_cases: ProofCases
) -> None:
    key, text = secrets.token_hex(8), f"About {new_org}"
    async with AsyncExitStack() as opened:
        replicas = [
            await _replica(opened, process, new_org, scripted_model)
            for process in (ledger, await ledger.replica())
        ]
        answers = await asyncio.gather(
            *(replicas[number % 2].chat(text, key) for number in range(1000))
        )
    kinds = Counter(_kind(answer) for answer in answers)
    assert kinds["served"] == 1, kinds
    assert set(kinds) <= {"served", "replayed", "request_in_flight"}
    assert len({a.body for a in answers if a.status == 200}) == 1
    assert sum(text in json.dumps(call.body) for call in scripted_model.app.calls) == 1
    intents = await ledger.query(
        "SELECT run_id FROM dataplane.intent WHERE org_id = %(org)s", org=new_org
    )
    assert len(intents) == 1
    proof_cases.add(1000)


async def test_answers_outlive_a_flush_of_valkey(
    make_ledger: MakeLedger, scripted_model: ScriptedServer, new_org: str
) -> None:
    ledger = await make_ledger()
    key, text = secrets.token_hex(8), f"About {new_org}"
    async with AsyncExitStack() as opened:
        plane = await _replica(opened, ledger, new_org, scripted_model)
        first = await plane.chat(text, key)
        redis = Redis.from_url(ledger.valkey.settings.url.get_secret_value())
        await redis.flushall()
        await redis.aclose()
        again = await plane.chat(text, key)
    assert (first.status, again.replayed, again.body) == (200, True, first.body)


async def _replica(
    opened: AsyncExitStack, ledger: Ledger, org_id: str, model: ScriptedServer
) -> SmallPlane:
    requests = request_journal(ledger.database)
    return await opened.enter_async_context(
        small_plane(ledger.database, ledger.meter, requests, org_id, model.base_url)
    )


async def _run_of(ledger: Ledger, org_id: str) -> str:
    rows = await ledger.query(
        "SELECT run_id::text AS run FROM dataplane.request WHERE org_id = %(org)s"
        " UNION SELECT run_id::text FROM dataplane.intent WHERE org_id = %(org)s",
        org=org_id,
    )
    assert len(rows) == 1, "the run of the ledger is the run of the request"
    return str(rows[0]["run"])


def _kind(answer: Answered) -> str:
    if answer.status == 200:
        return "replayed" if answer.replayed else "served"
    return answer.code


def _orders(ledger: Ledger, model: ScriptedServer) -> dict[str, object]:
    settings = ledger.provisioned.settings
    return {
        "app_dsn": settings.app_dsn.get_secret_value(),
        "system_dsn": settings.system_dsn.get_secret_value(),
        "context_key_id": settings.context_key_id,
        "context_key": settings.context_key.get_secret_value(),
        "valkey_url": ledger.valkey.settings.url.get_secret_value(),
        "master_key": ledger.master_key.hex(),
        "model_url": model.base_url,
    }
