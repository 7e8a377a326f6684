"""The registry: plans, orgs, what they may use. Every change signs the snapshots it touches.

Services never commit: the caller's transaction is the unit of work, and a refusal in it leaves
the last good state. What a snapshot says comes from the whole line of an org, so writes run as
system jobs; reads of one tenant run as that tenant.

Locks, always in this order: the plan's row (shared by tenants' writes, alone for the plan's), the
catalogue (likewise), then the rows of the roots by name. Whoever signs reads all sources after it
has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.planes.service import Planes
from tenantplane.controlplane.registry import decisions, repository
from tenantplane.controlplane.registry.catalogue import repository as catalogue
from tenantplane.controlplane.registry.decisions import DeletionPolicy, Writer
from tenantplane.controlplane.registry.schemas import OrgRow, OrgStanding, PlanRow
from tenantplane.controlplane.registry.signing import Signatory
from tenantplane.controlplane.usage.service import Usage
from tenantplane.core.apis.plan import PlanSpec
from tenantplane.core.apis.registry import PlanView, TenantView
from tenantplane.core.apis.tenant import OIDCIssuer, TenantSpec
from tenantplane.core.entitlements import org_rows, plan_rows, role_rows
from tenantplane.core.errors import Conflict, FieldError, NotFound


class Registry:
    """Plans and orgs."""

    def __init__(self, signatory: Signatory, planes: Planes, usage: Usage) -> None:
        self._signatory = signatory
        self._planes = planes
        self._usage = usage

    async def apply_plan(
        self, cursor: Cursor, name: str, spec: PlanSpec, writer: Writer
    ) -> PlanView:
        """Creates or changes a plan, and signs anew for every org that stands on it.

        Raises Unprocessable, Conflict (`other_writer`, `stale_generation`).
        """
        decisions.refuse_unpriced(spec)
        decisions.refuse_bad_fallbacks(spec)
        before = await repository.lock_plan(cursor, name)
        if before is None:
            if not await repository.insert_plan(
                cursor, name, spec, writer.name, writer.generation_over(0)
            ):
                raise _lost_race(f"plan {name!r}")
            await _write_plan_lists(cursor, name, spec)
            return await self._plan_view(cursor, name, changed=True)
        decisions.fence(before.held(), writer)
        await catalogue.lock_for_use(cursor)
        changed = await self._rewrite_plan(cursor, before, spec, writer)
        return await self._plan_view(cursor, name, changed=changed)

    async def delete_plan(self, cursor: Cursor, name: str, writer: Writer) -> None:
        """Raises NotFound, Conflict (`plan_in_use`, `other_writer`, `stale_generation`)."""
        plan = await repository.lock_plan(cursor, name)
        if plan is None:
            raise _no_such_plan(name)
        decisions.fence(plan.held(), writer)
        tenants = await repository.tenants_of_plan(cursor, name)
        if tenants:
            raise decisions.plan_in_use(name, tenants)
        await repository.delete_plan(cursor, name)

    async def plan(self, cursor: Cursor, name: str) -> PlanView:
        return await self._plan_view(cursor, name, changed=False)

    async def plans(self, cursor: Cursor) -> list[PlanView]:
        return await repository.plan_views(cursor)

    async def apply_tenant(
        self, cursor: Cursor, org_id: str, spec: TenantSpec, writer: Writer
    ) -> TenantView:
        """Registers or changes a tenant. Raises Unprocessable (`immutable_field`,
        `not_yet_supported`), Conflict (`unknown_plan`, `unknown_parent`, `parent_not_active`,
        `org_id_used`, `issuer_taken`, `other_writer`, `stale_generation`, `concurrent_write`)."""
        decisions.refuse_unsupported(spec)
        plan = await repository.share_plan(cursor, spec.plan)
        await catalogue.lock_for_use(cursor)
        before = await self._lock_tree(cursor, org_id, spec.parent)
        if before is not None:
            decisions.fence(before.held(), writer)
            decisions.refuse_immutable(before.spec, spec)
        elif await repository.is_purged(cursor, org_id):
            raise decisions.name_was_purged(org_id)
        if plan is None:
            raise decisions.unknown_plan(spec.plan, await repository.plan_names(cursor))
        decisions.refuse_unpriced_allowance(spec, plan.spec)
        after = await self._write_org(cursor, org_id, spec, writer, before)
        placed = await self._place(cursor, after)
        changed = _says_something_new(before, after)
        if changed or placed:
            await self._write_lists(cursor, after)
            below = await repository.tree_under(cursor, after.root_org_id, org_id)
            await self._signatory.sign_anew(cursor, sorted({*below, *placed}))
        return await self._view(cursor, org_id, changed=changed or bool(placed))

    async def delete_tenant(
        self, cursor: Cursor, org_id: str, policy: DeletionPolicy | None, writer: Writer
    ) -> TenantView:
        """Retain keeps the rows and refuses every request; Purge leaves a tombstone alone. Without
        a policy the manifest's counts.

        Raises NotFound, Conflict (`has_children`, `other_writer`, `stale_generation`).
        """
        org = await self._lock_tree(cursor, org_id, None)
        if org is None:
            raise decisions.no_such_tenant(org_id)
        policy = policy or org.spec.deletion_policy
        if org.status != "deleted" or writer.name != org.writer:
            decisions.fence(replace(org.held(), deleted=False), writer)
        await self._refuse_children(cursor, org, policy)
        changed = org.status != "deleted"
        if changed:
            await self._retire(cursor, org, writer)
        view = await self._view(cursor, org_id, changed=changed or policy == "Purge")
        if policy == "Purge":
            await self._usage.erase_persons(cursor, org_id)
            await repository.delete_org(cursor, org_id)
        return view

    async def place_waiting(self, cursor: Cursor, region: str) -> int:
        """Places trees that were registered before their region had a plane; how many orgs."""
        roots = await repository.waiting_roots(cursor, region)
        await repository.lock_roots(cursor, roots)
        placed: list[str] = []
        for root in roots:
            org = await repository.read_org(cursor, root)
            if org is not None:
                placed += await self._place(cursor, org)
        if placed:
            await self._signatory.sign_anew(cursor, sorted(placed))
        return len(placed)

    async def tenant(self, cursor: Cursor, org_id: str) -> TenantView:
        """Raises NotFound."""
        return await self._view(cursor, org_id, changed=False)

    async def tenants(self, cursor: Cursor, after: str, limit: int) -> Sequence[TenantView]:
        """By name, those behind `after`."""
        return await repository.view_orgs(cursor, after, limit, self._planes.replica_live_seconds)

    async def issuers_named(self, cursor: Cursor, issuer: str) -> list[tuple[str, OIDCIssuer]]:
        """The orgs that an issuer's URL may speak for, with its rules in each."""
        return await repository.issuers_named(cursor, issuer)

    async def standing(self, cursor: Cursor, org_id: str) -> OrgStanding | None:
        """What a token may say of an org, as it is now, umbrellas included."""
        rows = await repository.lines(cursor, [org_id])
        if org_id not in rows:
            return None
        org = rows[org_id]
        suspended = any(rows[above].status != "active" for above in org.path)
        return OrgStanding(
            org_id=org.org_id,
            root_org_id=org.root_org_id,
            status="suspended" if org.status == "active" and suspended else org.status,
            plan=org.spec["plan"],
            region=org.region,
            plane=org.plane,
            token_epoch=org.token_epoch,
        )

    async def _rewrite_plan(
        self, cursor: Cursor, before: PlanRow, spec: PlanSpec, writer: Writer
    ) -> bool:
        changed = spec != before.spec
        repriced = spec.prices != before.spec.prices
        await repository.update_plan(
            cursor,
            replace(
                before,
                spec=spec,
                writer=writer.name,
                generation=writer.generation_over(before.generation),
                version=before.version + changed,
                price_book_version=before.price_book_version + repriced,
            ),
        )
        if changed:
            await _write_plan_lists(cursor, before.name, spec)
            await repository.lock_roots_of_plan(cursor, before.name)
            touched = await repository.trees_under_plan(cursor, before.name)
            await self._signatory.sign_anew(cursor, sorted(touched))
        return changed

    async def _lock_tree(self, cursor: Cursor, org_id: str, parent_id: str | None) -> OrgRow | None:
        """The org as it is once the row of its root is held. A tree never changes its root."""
        known = await repository.read_org(cursor, org_id)
        above = known or (parent_id and await repository.read_org(cursor, parent_id)) or None
        root = above.root_org_id if above is not None else org_id
        await repository.lock_roots(cursor, [root])
        return await repository.lock_org(cursor, org_id)

    async def _write_org(
        self,
        cursor: Cursor,
        org_id: str,
        spec: TenantSpec,
        writer: Writer,
        before: OrgRow | None,
    ) -> OrgRow:
        status = decisions.status_of(spec)
        if before is None or before.status == "deleted":
            parent = await repository.read_org(cursor, spec.parent) if spec.parent else None
            path = decisions.path_under(org_id, spec, parent.as_parent() if parent else None)
        if before is not None:
            after = replace(
                before,
                status=status,
                spec=spec,
                plan=spec.plan,
                writer=writer.name,
                generation=writer.generation_over(before.generation),
                token_epoch=decisions.next_epoch(before.token_epoch, before.spec, spec),
            )
            await repository.update_org(cursor, after)
            return after
        created = OrgRow(
            org_id=org_id,
            root_org_id=path[0],
            parent=spec.parent,
            path=path,
            status=status,
            spec=spec,
            plan=spec.plan,
            region=spec.region,
            writer=writer.name,
            generation=writer.generation_over(0),
            token_epoch=1,
            plane=None,
        )
        if not await repository.insert_org(cursor, created):
            raise _lost_race(f"tenant {org_id!r}")
        return created

    async def _write_lists(self, cursor: Cursor, org: OrgRow) -> None:
        lists = org.spec.entitlements
        await repository.replace_org_entitlements(
            cursor, org.org_id, org_rows(lists), role_rows(lists)
        )
        taken = await repository.replace_issuers(cursor, org.org_id, org.spec.identity.issuers)
        if taken is not None:
            raise Conflict(
                f"Issuer {taken.issuer!r} with audience {taken.audience!r} speaks for another "
                "tenant.",
                hint="Give this tenant an audience of its own at the issuer.",
                code="issuer_taken",
                errors=(FieldError("identity.issuers", "is another tenant's: change audience"),),
            )

    async def _place(self, cursor: Cursor, org: OrgRow) -> list[str]:
        """The orgs that got a plane: a tree stands on one plane, its root's."""
        if org.plane is not None:
            return []
        root = await repository.read_org(cursor, org.root_org_id)
        plane = root.plane if root is not None else None
        plane = plane or await self._planes.choose(cursor, org.region)
        if plane is None:
            return []
        return await repository.place_tree(cursor, org.root_org_id, plane)

    async def _retire(self, cursor: Cursor, org: OrgRow, writer: Writer) -> None:
        await repository.update_org(
            cursor,
            replace(
                org,
                status="deleted",
                plan=None,
                writer=writer.name,
                generation=org.generation if writer.generation is None else writer.generation,
                token_epoch=org.token_epoch + 1,
            ),
        )
        below = await repository.tree_under(cursor, org.root_org_id, org.org_id)
        await self._signatory.sign_anew(cursor, sorted(below))

    async def _refuse_children(self, cursor: Cursor, org: OrgRow, policy: DeletionPolicy) -> None:
        children = await repository.children(cursor, org)
        standing = [c for c, status in children if policy == "Purge" or status != "deleted"]
        if standing:
            named = ", ".join(standing[: decisions.NAMED_IN_A_MESSAGE])
            raise Conflict(
                f"Tenant {org.org_id!r} is the umbrella of {len(standing)} tenant(s): {named}.",
                hint="Delete them first" + (" with policy=Purge." if policy == "Purge" else "."),
                code="has_children",
            )

    async def _view(self, cursor: Cursor, org_id: str, *, changed: bool) -> TenantView:
        view = await repository.view_org(cursor, org_id, self._planes.replica_live_seconds)
        if view is None:
            raise decisions.no_such_tenant(org_id)
        return view.model_copy(update={"changed": changed})

    async def _plan_view(self, cursor: Cursor, name: str, *, changed: bool) -> PlanView:
        views = await repository.plan_views(cursor, name)
        if not views:
            raise _no_such_plan(name)
        return views[0].model_copy(update={"changed": changed})


async def _write_plan_lists(cursor: Cursor, plan: str, spec: PlanSpec) -> None:
    lists = spec.entitlements
    await repository.replace_plan_entitlements(cursor, plan, plan_rows(lists), role_rows(lists))


def _says_something_new(before: OrgRow | None, after: OrgRow) -> bool:
    return before is None or (before.spec, before.status) != (after.spec, after.status)


def _no_such_plan(name: str) -> NotFound:
    return NotFound(f"There is no plan {name!r}.", hint="GET /v1/plans lists them.")


def _lost_race(what: str) -> Conflict:
    return Conflict(
        f"The {what} was created by somebody else at this moment.",
        hint="Send the request again.",
        code="concurrent_write",
    )
