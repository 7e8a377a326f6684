"""Liveness says that the process turns; readiness does what the service does."""

from __future__ import annotations

from typing import Final, LiteralString

from fastapi import APIRouter

from tenantplane.controlplane import jobs
from tenantplane.controlplane.deps import ServicesDep
from tenantplane.core.errors import DependencyUnavailable

router = APIRouter()

# A tenant's name by its form and nobody's: readiness enters a tenant as every request does.
_NOBODY = "readiness-probe"
_PROBE_TYP = "tp-probe+jwt"
_WHO_AM_I: Final[LiteralString] = "SELECT tp.current_org() AS org"
_COUNT_KEYS: Final[LiteralString] = "SELECT count(*) AS keys FROM controlplane.signing_key"


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(services: ServicesDep) -> dict[str, str]:
    """A transaction as a tenant, one as the system, a signature that verifies, a listener; and a
    database that its own check does not refuse."""
    services.isolation.require()
    async with services.database.tenant_tx(_NOBODY) as cursor:
        await cursor.execute(_WHO_AM_I)
        row = await cursor.fetchone()
    async with services.database.system_tx(jobs.READY) as cursor:
        await cursor.execute(_COUNT_KEYS)
        keys = await cursor.fetchone()
    signed = services.signer.sign({"probe": True}, _PROBE_TYP)
    verified = services.identity.keys.verify(signed, _PROBE_TYP)
    is_ready = row == {"org": _NOBODY} and keys is not None and keys["keys"] > 0
    if not (is_ready and verified == {"probe": True} and services.feed.is_listening):
        raise DependencyUnavailable(
            "The control plane is not ready.",
            hint="Its log says which part is not.",
            retry_after_seconds=1,
        )
    return {"status": "ready"}
