"""The sweeper among orgs that cannot be swept."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

import pytest

from tenantplane.core.errors import Forbidden
from tenantplane.dataplane.ledger.sweeper import Sweeper
from tests.fixtures.ledger import Ledger, MakeLedger, a_call, a_snapshot, a_tenant

LATER = timedelta(minutes=10)


def close_the_key_of(ledger: Ledger, org: str, error: Exception) -> None:
    """As if that org's owner had revoked its key in the KMS."""
    keys = ledger.meter.keys
    of = keys.of

    async def refused(org_id: str) -> Any:
        if org_id == org:
            raise error
        return await of(org_id)

    keys.of = refused  # type: ignore[method-assign]


@pytest.mark.parametrize("error", [Forbidden("revoked"), ValueError("what nobody expected")])
async def test_an_org_that_cannot_be_swept_stands_in_no_others_way(
    make_ledger: MakeLedger, error: Exception
) -> None:
    ledger = await make_ledger()
    locked, well = (f"org-{secrets.token_hex(6)}" for _ in range(2))
    for org in (locked, locked, locked, well):
        await ledger.meter.open(a_tenant(org), a_snapshot(org), a_call(500))
    close_the_key_of(ledger, locked, error)
    # Fewer at once than the locked org has, which are the oldest.
    sweeper = Sweeper(
        ledger.meter,
        lambda: (locked, well),
        now=lambda: ledger.database.clock.now() + LATER,
        batch=2,
    )
    assert (await sweeper.sweep()).estimated == 1
    assert await ledger.settled_in_postgres(well) == 500
    # Nothing of the locked org is free.
    assert await ledger.in_valkey(a_snapshot(locked)) == (0, 1500)
