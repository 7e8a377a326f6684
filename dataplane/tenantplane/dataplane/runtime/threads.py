"""Threads: whose they are, and that one run at a time writes to each."""

from __future__ import annotations

from typing import LiteralString
from uuid import UUID

from tenantplane.core.db.pool import Database
from tenantplane.core.errors import Conflict, NotFound
from tenantplane.core.ids import new_id
from tenantplane.core.tenancy import TenantContext, namespaced

_CREATE: LiteralString = """
INSERT INTO dataplane.thread (org_id, thread_id, user_id, busy_run, busy_until)
VALUES (%(org_id)s, %(thread_id)s, %(user_id)s, %(run_id)s,
        clock_timestamp() + make_interval(secs => %(seconds)s))
"""
_EXISTS: LiteralString = """
SELECT 1 FROM dataplane.thread WHERE org_id = %(org_id)s AND thread_id = %(thread_id)s
"""
_CLAIM: LiteralString = """
UPDATE dataplane.thread
   SET busy_run = %(run_id)s, updated_at = clock_timestamp(),
       busy_until = clock_timestamp() + make_interval(secs => %(seconds)s)
 WHERE org_id = %(org_id)s AND thread_id = %(thread_id)s
   AND (busy_run IS NULL OR busy_run = %(run_id)s OR busy_until < clock_timestamp())
"""
# Still one's own: a claim that aged out and was taken by another run is not taken back.
_RENEW: LiteralString = """
UPDATE dataplane.thread
   SET busy_until = clock_timestamp() + make_interval(secs => %(seconds)s)
 WHERE org_id = %(org_id)s AND thread_id = %(thread_id)s AND busy_run = %(run_id)s
"""
_RELEASE: LiteralString = """
UPDATE dataplane.thread SET busy_run = NULL, busy_until = NULL, updated_at = clock_timestamp()
 WHERE org_id = %(org_id)s AND thread_id = %(thread_id)s AND busy_run = %(run_id)s
"""


def parse_thread_id(text: str) -> str:
    """The canonical form of a bare thread id. Raises NotFound: what is no UUID was never given out,
    and the answer must not differ from that for another org's thread."""
    try:
        return str(UUID(text))
    except ValueError:
        raise no_such_thread() from None


def no_such_thread() -> NotFound:
    """Carries no id and no reason: the same bytes for unknown, another org's and malformed."""
    return NotFound(
        "There is no such thread.",
        hint="Leave metadata.thread_id out to start a new one.",
        code="thread_not_found",
    )


class Threads:
    """Threads of orgs; any user of an org may go on with any thread of that org."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim_new(self, tenant: TenantContext, run_id: UUID, seconds: float) -> str:
        """A new thread, claimed for the run; returns its bare id."""
        thread_id = str(new_id())
        async with self._database.tenant_tx(tenant.org_id) as cursor:
            await cursor.execute(
                _CREATE,
                _key(tenant, thread_id, run_id) | {"user_id": tenant.user_id, "seconds": seconds},
            )
        return thread_id

    async def claim(
        self, tenant: TenantContext, thread_id: str, run_id: UUID, seconds: float
    ) -> None:
        """Raises NotFound, and Conflict where another run is at work in the thread."""
        key = _key(tenant, thread_id, run_id)
        async with self._database.tenant_tx(tenant.org_id) as cursor:
            await cursor.execute(_CLAIM, key | {"seconds": seconds})
            if cursor.rowcount == 1:
                return
            await cursor.execute(_EXISTS, key)
            if await cursor.fetchone() is None:
                raise no_such_thread()
        raise Conflict(
            "Another run is at work in this thread.",
            hint="Wait for its answer, or start a new thread.",
            code="thread_busy",
        )

    async def renew(
        self, tenant: TenantContext, thread_id: str, run_id: UUID, seconds: float
    ) -> None:
        """Raises Conflict where the claim was lost: this run must write nothing more."""
        async with self._database.tenant_tx(tenant.org_id) as cursor:
            await cursor.execute(_RENEW, _key(tenant, thread_id, run_id) | {"seconds": seconds})
            if cursor.rowcount != 1:
                raise Conflict("Another run took this thread over.", code="thread_busy")

    async def release(self, tenant: TenantContext, thread_id: str, run_id: UUID) -> None:
        async with self._database.tenant_tx(tenant.org_id) as cursor:
            await cursor.execute(_RELEASE, _key(tenant, thread_id, run_id))


def _key(tenant: TenantContext, thread_id: str, run_id: UUID) -> dict[str, object]:
    return {
        "org_id": tenant.org_id,
        "thread_id": namespaced(tenant.org_id, thread_id),
        "run_id": run_id,
    }
