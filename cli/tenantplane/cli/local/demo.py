"""`tenantplane demo`: the main job, each line with what it shows. Exits 0 when all of it held."""

from __future__ import annotations

import time
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

from rich.markup import escape

from tenantplane.cli import apply as applying
from tenantplane.cli.local.conversation import Reply, Tenant
from tenantplane.cli.local.stack import STEPS, Stack, running
from tenantplane.cli.output import Steps, console
from tenantplane.core.apis.registry import ApiKeyRequest
from tenantplane.core.money import format_usd

MODEL = "agent/assistant-1"
# The examples' second tenant has a cap of one cent; an answer of this length fits under it.
_SHORT = 300
HANDBOOK = """# Travel
Take the train where it is faster than flying. Hotels up to 140 euros a night need no approval.

# Holidays
Thirty days a year; tell your team two weeks before.
"""
TRAVEL = "What does our handbook say about travel by train?"
CALLS = "How many calls did we make, and what did they cost?"
QUESTIONS = {
    "acme": "Please remember: the contract with Initech ends in May.",
    "globex": "What time is it in Tokyo?",
}


async def run(examples: Path) -> int:
    """Returns the exit code."""
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        with Steps(STEPS) as steps:
            plane = await stack.enter_async_context(running("demo", steps, keep_data=False))
            tenants = [
                await stack.enter_async_context(tenant)
                for tenant in await apply_and_key(plane, steps, examples)
            ]
        held = await converse(*tenants)
    console.print()
    if not held:
        console.print("[red]Not all of it held: see the lines marked ✗.[/]")
        return 1
    seconds = time.monotonic() - started
    console.print(f"All of it held, in {seconds:.0f} s. To keep it running and try more: make dev")
    return 0


async def apply_and_key(plane: Stack, steps: Steps, examples: Path) -> list[Tenant]:
    """The examples' tenants, each with a fresh key that the data plane knows already."""
    async with plane.context.registry() as registry:
        with steps.step(f"tenantplane apply -f {examples}"):
            await applying.apply(registry, examples, take_over=False, wait_seconds=15)
        with steps.step("an API key for each tenant"):
            request = ApiKeyRequest(name="demo", user_id="ada")
            keys = {org: await registry.create_key(org, request) for org in QUESTIONS}
            await applying.wait_applied(registry, list(keys), 15)
    return [Tenant(org, plane.data_plane_url, key.secret) for org, key in keys.items()]


async def converse(acme: Tenant, globex: Tenant) -> bool:
    """One question as each tenant, then what must be refused. True where all of it held."""
    held: list[bool] = []

    def line(ok: bool, text: str, shows: str) -> None:
        held.append(ok)
        mark = "[green]✓[/]" if ok else "[red]✗[/]"
        console.print(f"\n{mark} {escape(text)}\n  [dim]{escape(shows)}[/]")

    replies: dict[str, Reply] = {}
    for tenant in (acme, globex):
        question = QUESTIONS[tenant.org_id]
        reply = await tenant.ask(question, model=MODEL, max_tokens=_SHORT)
        replies[tenant.org_id] = reply
        line(
            reply.ok,
            f"{tenant.org_id} asks: {question}\n  → {reply.text}",
            "API key → signed entitlements → supervisor → cap → tool and model → answer.",
        )
        month = await tenant.spend()
        line(
            0 < month.settled_nanousd <= month.hard_cap_nanousd,
            f"{tenant.org_id} has spent {format_usd(month.settled_nanousd)} of "
            f"{format_usd(month.hard_cap_nanousd)} this month",
            "Held before each call at its worst case, settled after it at what it used.",
        )
        record = await tenant.audit_record(reply.audit_records[0]) if reply.ok else None
        line(
            record is not None and record["record"]["org_id"] == tenant.org_id,
            f"{tenant.org_id}'s audit records: {', '.join(reply.audit_records)}",
            "Each model and tool call has one, encrypted under the org's own key.",
        )

    foreign = replies["acme"].thread_id
    stolen = await globex.ask("Go on.", model=MODEL, max_tokens=_SHORT, thread_id=foreign)
    unknown = await globex.ask(
        "Go on.", model=MODEL, max_tokens=_SHORT, thread_id=str(uuid.uuid4())
    )
    line(
        stolen.status == 404 and (stolen.status, stolen.code) == (unknown.status, unknown.code),
        f"globex asks in acme's thread {foreign}: {stolen.status} {stolen.code}",
        "The same answer as for a thread that never was: existence is no oracle.",
    )
    for ok, text, shows in await _documents(acme, globex):
        line(ok, text, shows)
    essay = await globex.ask("Write a very long essay.", model="assistant-1", max_tokens=None)
    line(
        essay.ok and essay.cut_to is not None,
        f"globex asks without a bound: {essay.status}, {essay.cut_to} tokens at most",
        "The longest answer does not fit under the hard cap: it is held for, and cut to, what does.",
    )
    past = await globex.ask(HANDBOOK * 500, model="assistant-1", max_tokens=_SHORT)
    line(
        past.status == 402,
        f"globex sends a prompt of 500 handbooks: {past.status} {past.code}\n  → {past.text}",
        "The worst case of the prompt alone does not fit, so the call is never made.",
    )
    return all(held)


async def _documents(acme: Tenant, globex: Tenant) -> list[tuple[bool, str, str]]:
    """What the two tenants see of a document of one of them."""
    handbook = await acme.upload("handbook.md", HANDBOOK)
    reply = await acme.ask(TRAVEL, model=MODEL, max_tokens=_SHORT)
    passages = await globex.passages(TRAVEL)
    stolen = await globex.document(handbook.text)
    unknown = await globex.document(str(uuid.uuid4()))
    calls = await acme.ask(CALLS, model=MODEL, max_tokens=_SHORT)
    return [
        (
            handbook.status == 201 and reply.ok and "train" in reply.text,
            f"acme uploads handbook.md and asks: {TRAVEL}\n  → {reply.text}",
            "Chunks and vectors in Postgres under row-level security; the search is a metered tool.",
        ),
        (
            passages == [] and (stolen.status, stolen.code) == (unknown.status, unknown.code),
            f"globex asks its documents the same: {len(passages)} passages; "
            f"for acme's document: {stolen.status} {stolen.code}",
            "Search is bound to the tenant in its wrapper, and by the database under it.",
        ),
        (
            calls.ok and any(c.isdigit() for c in calls.text),
            f"acme asks: {CALLS}\n  → {calls.text}",
            "SQL that the model wrote: parsed, one read-only cursor, a role that sees its tenant.",
        ),
    ]
