"""Signs anew what changed: from rows to signed snapshots, in the transaction of the change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.planes import snapshots
from tenantplane.controlplane.planes.schemas import StoredSnapshot
from tenantplane.controlplane.planes.service import Planes
from tenantplane.controlplane.planes.snapshots import OrgTerms
from tenantplane.controlplane.registry import repository
from tenantplane.controlplane.registry.entitlements import resolve
from tenantplane.controlplane.registry.schemas import LineRow, PlanTerms
from tenantplane.core.apis.limits import Limits
from tenantplane.core.apis.snapshot import SNAPSHOT_TYP, ApiKeyGrant
from tenantplane.core.db.clock import DatabaseClock
from tenantplane.core.keys.signing import SigningKey

# A signature takes about 0.1 ms: more than these would be felt by every other request.
_SIGNED_ON_THE_LOOP: Final = 20


class Signatory:
    """Keeps each org's signed snapshot equal to what its rows say."""

    def __init__(self, signer: SigningKey, clock: DatabaseClock, planes: Planes) -> None:
        self._signer = signer
        self._clock = clock
        self._planes = planes

    async def sign_anew(self, cursor: Cursor, org_ids: Sequence[str]) -> int:
        """Signs those of `org_ids` whose content changed; returns how many. An org without a plane
        has no snapshot yet. The caller holds the roots' rows."""
        rows = await repository.lines(cursor, org_ids)
        plans = await repository.plan_terms(
            cursor, sorted({row.plan for row in rows.values() if row.plan is not None})
        )
        keys = await repository.key_grants(cursor, org_ids)
        now = self._clock.now()
        work = (org_ids, rows, plans, keys, now)
        if len(org_ids) > _SIGNED_ON_THE_LOOP:
            signed = await asyncio.to_thread(self._sign, *work)
        else:
            signed = self._sign(*work)
        await self._planes.publish(cursor, signed)
        return len(signed)

    def _sign(
        self,
        org_ids: Sequence[str],
        rows: Mapping[str, LineRow],
        plans: Mapping[str, PlanTerms],
        keys: Mapping[str, list[ApiKeyGrant]],
        now: datetime,
    ) -> list[StoredSnapshot]:
        terms = {org_id: _terms(row, plans) for org_id, row in rows.items()}
        signed = []
        for org_id in org_ids:
            row = rows[org_id]
            if row.plane is None:
                continue
            snapshot = snapshots.build([terms[above] for above in row.path], keys.get(org_id, []))
            digest = snapshots.digest(snapshot)
            if digest == row.content_sha256:
                continue
            version = (row.version or 0) + 1
            payload = snapshots.versioned(snapshot, version, now)
            signed.append(
                StoredSnapshot(
                    org_id=org_id,
                    root_org_id=row.root_org_id,
                    plane=row.plane,
                    version=version,
                    status=snapshot.status,
                    digest=digest,
                    jws=self._signer.sign(payload, SNAPSHOT_TYP),
                )
            )
        return signed


def _terms(row: LineRow, plans: Mapping[str, PlanTerms]) -> OrgTerms:
    plan = plans.get(row.plan) if row.plan is not None else None
    limits = Limits.model_validate(row.spec.get("limits", {}))
    planned = plan.entitlements if plan else ()
    return OrgTerms(
        org_id=row.org_id,
        root_org_id=row.root_org_id,
        status=row.status,
        plane=row.plane,
        region=row.region,
        plan=row.spec["plan"],
        price_book_version=row.price_book_version,
        time_zone=row.spec["timeZone"],
        max_offline_seconds=60 * row.spec["maxOfflineMinutes"],
        token_epoch=row.token_epoch,
        limits=limits.over(plan.spec.limits) if plan else limits,
        tools=resolve("tool", planned, row.entitlements),
        models=resolve("model", planned, row.entitlements),
        data_sources=resolve("data_source", planned, row.entitlements),
        offers=plan.spec.prices.models if plan else (),
    )
