"""Behind PgBouncer a session that one client left a trap in is the next one's a moment later."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable
from tests.fixtures.pgbouncer import StartPgBouncer
from tests.fixtures.postgres import ProvisionDatabase

TOY_PLANE = Path(__file__).parent / "toy_plane"
TRAPS = {"PREPARE": "PREPARE trap AS SELECT body FROM note", "LISTEN": "LISTEN gossip"}


@pytest.mark.req("R2")
@pytest.mark.fault("F14", "F16", "F17")
@pytest.mark.parametrize("kind", TRAPS)
async def test_whoever_meets_the_trap_is_not_served_in_it(
    provision_database: ProvisionDatabase, start_pgbouncer: StartPgBouncer, kind: str
) -> None:
    pgbouncer = start_pgbouncer(await provision_database("data", TOY_PLANE), sessions=1)
    one, other = (Database(pgbouncer.settings(), name=name) for name in ("one", "other"))
    try:
        await one.open()
        await other.open()
        async with other.tenant_tx("org-2"):
            pass  # its own connection has been looked at by now
        async with one.tenant_tx("org-1") as cursor:
            await cursor.execute(TRAPS[kind].encode())
        with pytest.raises(DependencyUnavailable, match="spoilt"):
            async with other.tenant_tx("org-2"):
                pass
    finally:
        await one.close()
        await other.close()
