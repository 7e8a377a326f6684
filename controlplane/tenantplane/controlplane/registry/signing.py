"""Signs anew what changed: from rows to signed snapshots, in the transaction of the change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.planes import snapshots
from tenantplane.controlplane.planes.schemas import StoredSnapshot
from tenantplane.controlplane.planes.service import Planes
from tenantplane.controlplane.planes.snapshots import OrgTerms
from tenantplane.controlplane.registry import repository
from tenantplane.controlplane.registry.catalogue import prompts
from tenantplane.controlplane.registry.limits import repository as raises
from tenantplane.controlplane.registry.schemas import LineRow, PlanTerms, lists_of
from tenantplane.core.apis.limits import Limits
from tenantplane.core.apis.plan import Prices
from tenantplane.core.apis.snapshot import SNAPSHOT_TYP, ApiKeyGrant, CapRaise, PromptGrant
from tenantplane.core.db.clock import DatabaseClock
from tenantplane.core.entitlements import bound_to_roles, resolve
from tenantplane.core.keys.signing import SigningKey

# A signature takes about 0.1 ms: more than these would be felt by every other request.
_SIGNED_ON_THE_LOOP: Final = 20


@dataclass(frozen=True, slots=True)
class _Sources:
    """Everything that the snapshots of some orgs are made of, by org id and by plan."""

    lines: Mapping[str, LineRow]
    plans: Mapping[str, PlanTerms]
    keys: Mapping[str, list[ApiKeyGrant]]
    raises: Mapping[str, tuple[CapRaise, ...]]
    prompts: Mapping[str, tuple[PromptGrant, ...]]

    def plan_of(self, org: LineRow) -> PlanTerms | None:
        return self.plans.get(org.plan) if org.plan is not None else None


class Signatory:
    """Keeps each org's signed snapshot equal to what its rows say."""

    def __init__(self, signer: SigningKey, clock: DatabaseClock, planes: Planes) -> None:
        self._signer = signer
        self._clock = clock
        self._planes = planes

    async def sign_anew(self, cursor: Cursor, org_ids: Sequence[str]) -> int:
        """Signs those of `org_ids` whose content changed; returns how many. An org without a plane
        has no snapshot yet. The caller holds the roots' rows.

        Raises Unprocessable (`prompts_too_large`).
        """
        sources = await _read(cursor, org_ids)
        now = self._clock.now()
        if len(org_ids) > _SIGNED_ON_THE_LOOP:
            signed = await asyncio.to_thread(self._sign, org_ids, sources, now)
        else:
            signed = self._sign(org_ids, sources, now)
        await self._planes.publish(cursor, signed)
        return len(signed)

    def _sign(
        self, org_ids: Sequence[str], sources: _Sources, now: datetime
    ) -> list[StoredSnapshot]:
        terms = {org_id: _terms(row, sources) for org_id, row in sources.lines.items()}
        signed = []
        for org_id in org_ids:
            row = sources.lines[org_id]
            if row.plane is None:
                continue
            line = [terms[above] for above in row.path]
            snapshot = snapshots.build(line, sources.keys.get(org_id, []))
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


async def _read(cursor: Cursor, org_ids: Sequence[str]) -> _Sources:
    lines = await repository.lines(cursor, org_ids)
    plans = await repository.plan_terms(
        cursor, sorted({row.plan for row in lines.values() if row.plan is not None})
    )
    sources = _Sources(
        lines=lines,
        plans=plans,
        keys=await repository.key_grants(cursor, org_ids),
        # An org's raises stand in the snapshots of all below it.
        raises=await raises.standing(cursor, sorted(lines)),
        prompts={},
    )
    lists = {org_id: lists_of(lines[org_id], sources.plan_of(lines[org_id])) for org_id in org_ids}
    return replace(sources, prompts=await prompts.granted(cursor, lists))


def _terms(row: LineRow, sources: _Sources) -> OrgTerms:
    plan = sources.plan_of(row)
    limits = Limits.model_validate(row.spec.get("limits", {}))
    lists = lists_of(row, plan)
    tools = resolve("tool", lists.plan, lists.org)
    models = resolve("model", lists.plan, lists.org)
    data_sources = resolve("data_source", lists.plan, lists.org)
    granted = sources.prompts.get(row.org_id, ())
    usable = {
        "tool": set(tools),
        "model": set(models),
        "data_source": set(data_sources),
        "prompt": {prompt.name for prompt in granted},
    }
    until = row.excess_acknowledged_until
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
        raises=sources.raises.get(row.org_id, ()),
        excess_acknowledged_until=until.astimezone(UTC) if until else None,
        tools=tools,
        models=models,
        data_sources=data_sources,
        prompts=granted,
        role_bound=tuple(
            bound
            for bound in bound_to_roles((*lists.plan_roles, *lists.org_roles))
            if bound.name in usable[bound.kind]
        ),
        prices=plan.spec.prices if plan else Prices(),
    )
