"""A provider's excess stops its org, on every replica, until somebody acknowledges it."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.errors import ProviderExcess
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.ledger.calls import Usage
from tests.fixtures.dataplane import until
from tests.fixtures.ledger import Ledger, MakeLedger, a_call, a_snapshot, a_tenant


async def exceed(ledger: Ledger, org: str) -> None:
    """A call that cost three times what was held for it."""
    call = await ledger.meter.open(a_tenant(org), a_snapshot(org), a_call(1000))
    await call.complete(Usage(1, 1, NanoUSD(3000)), None)


async def refused(ledger: Ledger, snapshot: Snapshot) -> bool:
    try:
        call = await ledger.meter.open(a_tenant(snapshot.org_id), snapshot, a_call())
    except ProviderExcess:
        return True
    await call.complete(Usage(1, 1, NanoUSD(1)), None)
    return False


@pytest.mark.req("R32")
async def test_the_very_next_call_is_refused_and_names_what_to_do(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    await exceed(ledger, new_org)
    with pytest.raises(ProviderExcess) as caught:
        await ledger.meter.open(a_tenant(new_org), a_snapshot(new_org), a_call())
    assert (caught.value.status, caught.value.error_code) == (402, "provider_excess")
    assert "acknowledge" in str(caught.value)
    # The truth counts, though it is more than was held.
    assert await ledger.in_valkey(a_snapshot(new_org)) == (3000, 0)
    assert not await refused(ledger, a_snapshot(f"{new_org}-other"))


@pytest.mark.req("R32")
async def test_other_replicas_hear_of_it_and_a_restart_does_not_forget(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    other = await ledger.replica()
    await exceed(ledger, new_org)
    await until(lambda: refused(other, a_snapshot(new_org)), bool)
    assert await refused(await ledger.replica(), a_snapshot(new_org))


async def test_what_was_told_while_nobody_listened_is_read_on_reconnection(
    make_ledger: MakeLedger, postgres: EmbeddedPostgres, new_org: str
) -> None:
    ledger = await make_ledger()
    other = await ledger.replica()
    other.meter.excesses.load = _deaf  # type: ignore[method-assign]
    await exceed(ledger, new_org)
    assert not await refused(other, a_snapshot(new_org))
    del other.meter.excesses.load
    await end_listeners(postgres, ledger)
    await until(lambda: refused(other, a_snapshot(new_org)), bool, 15)


async def test_acknowledged_excesses_stop_nothing_and_later_ones_do(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    await exceed(ledger, new_org)
    now = ledger.database.clock.now()
    acknowledged = a_snapshot(new_org).model_copy(update={"excess_acknowledged_until": now})
    earlier = acknowledged.model_copy(
        update={"excess_acknowledged_until": now - timedelta(hours=1)}
    )
    lenient = a_snapshot(new_org).model_copy(update={"on_provider_excess": "continue"})
    assert not await refused(ledger, acknowledged)
    assert not await refused(ledger, lenient)
    assert await refused(ledger, earlier)
    call = await ledger.meter.open(a_tenant(new_org), acknowledged, a_call(1000))
    await call.complete(Usage(1, 1, NanoUSD(1001)), None)
    assert await refused(ledger, acknowledged)
    assert not await refused(ledger, lenient)


async def _deaf(org_id: str | None = None) -> None:
    """As if the notification had come while the connection was broken."""


async def end_listeners(postgres: EmbeddedPostgres, ledger: Ledger) -> None:
    dsn = postgres.admin_dsn(ledger.provisioned.bootstrapped.dbname)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as administrator:
        await administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE '%-listen' AND datname = current_database()"
        )
