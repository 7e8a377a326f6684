"""Puts right what `ledger check` found and what can be put right. Each step may be repeated."""

from __future__ import annotations

from collections.abc import Sequence

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.ids import new_id
from tenantplane.dataplane.ledger.calls import Usage
from tenantplane.dataplane.ledger.check import CHECK, Book, Difference
from tenantplane.dataplane.ledger.closing import Call, Ending
from tenantplane.dataplane.ledger.meter import Meter
from tenantplane.dataplane.ledger.provider_report import ProviderReport
from tenantplane.dataplane.ledger.rolling import ROLL
from tenantplane.dataplane.ledger.statements import statement
from tenantplane.dataplane.ledger.sweeper import Sweeper

_REASON = "corrected by the provider's report"


async def repair(
    meter: Meter,
    snapshot: Snapshot,
    found: Sequence[Difference],
    report: ProviderReport | None,
) -> None:
    """Rolls are summed up anew, overdue calls estimated, estimates corrected by the provider's
    word, and Valkey is rebuilt from all that. What an actual outcome says stands: a provider that
    says other is for a person. Raises DependencyUnavailable."""
    books = {difference.book for difference in found}
    root = snapshot.root_org_id
    if Book.ROLLS in books:
        await _roll_anew(meter, root)
    if Book.OUTCOMES in books:
        await Sweeper(meter, lambda: (root,)).sweep()
    if report is not None and Book.PROVIDER_CALL in books:
        await _correct(meter, snapshot.org_id, report)
    if books & {Book.ROLLS, Book.VALKEY_SETTLED, Book.VALKEY_HELD}:
        await meter.store.rebuild()


async def _roll_anew(meter: Meter, root: str) -> None:
    async with meter.database.system_tx(ROLL) as cursor:
        await cursor.execute(statement("lock_roll_cursor"))
        position = await cursor.fetchone()
        assert position is not None
        await cursor.execute(statement("drop_rolls"), {"root": root})
        await cursor.execute(statement("roll_root"), {**position, "root": root})


async def _correct(meter: Meter, org_id: str, report: ProviderReport) -> None:
    async with meter.database.system_tx(CHECK) as cursor:
        await cursor.execute(
            statement("read_costs"), {"org_id": org_id, "intent_ids": sorted(report.calls)}
        )
        rows = await cursor.fetchall()
    for row in rows:
        if row["stage"] != "estimated":
            continue
        reported = report.calls[row["intent_id"]]
        call = Call(
            org_id=org_id,
            intent_id=row["intent_id"],
            root_org_id=row["root_org_id"],
            user_id=row["user_id"],
            run_id=row["run_id"],
            call_no=row["call_no"],
            thread_id=row["thread_id"],
            kind=row["kind"],
            resource=row["resource"],
        )
        ending = Ending(
            event_id=new_id(),
            record_id=new_id(),
            status="interrupted",
            usage=Usage(reported.input_tokens, reported.output_tokens, reported.cost_nanousd),
            response={"reason": _REASON},
        )
        await meter.closer.close(call, ending)
