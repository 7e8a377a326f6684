"""What an org may use, and why: from the rows that its snapshot is made of, by the same function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.planes.snapshots import Status
from tenantplane.controlplane.registry import decisions, repository
from tenantplane.controlplane.registry.catalogue import prompts
from tenantplane.controlplane.registry.catalogue import repository as catalogue
from tenantplane.controlplane.registry.entitlements.telling import Asked, tell, tell_row
from tenantplane.controlplane.registry.schemas import LineRow, PlanTerms, lists_of
from tenantplane.core.apis.access import EntitledView, EntitlementsView, ExplanationView
from tenantplane.core.apis.catalogue import Kind
from tenantplane.core.apis.registry import ApiKeyView
from tenantplane.core.db.clock import DatabaseClock
from tenantplane.core.entitlements import Lists, bound_to_roles, explain, resolve
from tenantplane.core.errors import NotFound


@dataclass(frozen=True, slots=True)
class Caller:
    """Who would ask: roles as they are, or those of a key, or those of a user's keys."""

    roles: tuple[str, ...] | None = None
    key_id: str | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Org:
    row: LineRow
    plan: PlanTerms | None
    lists: Lists
    status: Status
    prompts: dict[str, int]

    def priced_models(self) -> set[str]:
        return {offer.name for offer in self.plan.spec.prices.models} if self.plan else set()

    def obtainable(self, kind: Kind) -> set[str] | None:
        if kind == "model":
            return self.priced_models()
        return set(self.prompts) if kind == "prompt" else None


class Entitlements:
    """Reads alone."""

    def __init__(self, clock: DatabaseClock) -> None:
        self._clock = clock

    async def entitled(self, cursor: Cursor, org_id: str) -> EntitlementsView:
        """Raises NotFound."""
        org = await _read(cursor, org_id)
        roles = {
            (bound.kind, bound.name): bound.roles
            for bound in bound_to_roles((*org.lists.plan_roles, *org.lists.org_roles))
        }
        return EntitlementsView(
            org_id=org_id,
            plan=org.row.spec["plan"],
            status=org.status,
            version=org.row.version or 0,
            items=tuple(
                EntitledView(
                    kind=kind, name=name, version=version, roles=roles.get((kind, name), ())
                )
                for kind, name, version in _usable(org)
            ),
        )

    async def explain(
        self, cursor: Cursor, org_id: str, kind: Kind, name: str, caller: Caller
    ) -> ExplanationView:
        """Raises NotFound: no such tenant, or no such key."""
        org = await _read(cursor, org_id)
        keys = await repository.keys(cursor, org_id)
        key = _key_of(keys, org_id, caller.key_id)
        roles = _roles_of(caller, key, keys, self._clock.now())
        asked = Asked(org_id, org.row.spec["plan"], kind, name, roles)
        found = explain(kind, name, org.lists, roles, org.obtainable(kind))
        message, hint = tell(asked, found, org.lists.named(kind))
        allowed, reason = found.allowed, str(found.reason)
        if refusal := _refusal(org, key, asked, self._clock.now()):
            allowed, (reason, message, hint) = False, refusal
        return ExplanationView(
            kind=kind,
            name=name,
            allowed=allowed,
            reason=reason,
            message=message,
            hint=hint,
            rows=tuple(tell_row(asked, row) for row in found.rows),
            roles=roles,
            version=org.row.version or 0,
        )


async def _read(cursor: Cursor, org_id: str) -> _Org:
    rows = await repository.lines(cursor, [org_id])
    row = rows.get(org_id)
    if row is None:
        raise decisions.no_such_tenant(org_id)
    plans = await repository.plan_terms(cursor, [row.plan] if row.plan else [])
    plan = plans.get(row.plan) if row.plan else None
    lists = lists_of(row, plan)
    usable = await catalogue.usable_versions(cursor, lists.named("prompt"))
    stopped = row.status == "active" and any(rows[o].status != "active" for o in row.path)
    return _Org(
        row=row,
        plan=plan,
        lists=lists,
        status="suspended" if stopped else row.status,
        prompts=prompts.choose_versions(lists, usable),
    )


def _usable(org: _Org) -> list[tuple[Kind, str, int | None]]:
    def names(kind: Kind) -> Sequence[str]:
        return resolve(kind, org.lists.plan, org.lists.org)

    priced = org.priced_models()
    return [
        *(("tool", name, None) for name in names("tool")),
        *(("model", name, None) for name in names("model") if name in priced),
        *(("prompt", name, version) for name, version in org.prompts.items()),
        *(("data_source", name, None) for name in names("data_source")),
    ]


def _key_of(keys: Sequence[ApiKeyView], org_id: str, key_id: str | None) -> ApiKeyView | None:
    if key_id is None:
        return None
    for key in keys:
        if key.key_id == key_id:
            return key
    raise NotFound(
        f"Tenant {org_id!r} has no key {key_id!r}.", hint=f"See `tenantplane keys list {org_id}`."
    )


def _roles_of(
    caller: Caller, key: ApiKeyView | None, keys: Sequence[ApiKeyView], now: datetime
) -> tuple[str, ...] | None:
    if key is not None:
        return key.roles
    if caller.user_id is None:
        return caller.roles
    acting = [k for k in keys if k.user_id == caller.user_id and _in_force(k, now)]
    # Who has no key signs in with a token, and that says the roles: only its issuer knows them.
    return tuple(sorted({role for k in acting for role in k.roles})) if acting else None


def _in_force(key: ApiKeyView, now: datetime) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)


def _refusal(
    org: _Org, key: ApiKeyView | None, asked: Asked, now: datetime
) -> tuple[str, str, str] | None:
    """What refuses everything, or everything by this key, whatever the lists say."""
    if org.status == "deleted":
        return "deleted", f"Tenant {asked.org_id!r} was deleted.", "Apply its manifest again."
    if org.status == "suspended":
        return (
            "suspended",
            f"Tenant {asked.org_id!r}, or an umbrella of it, is suspended: nothing runs.",
            "Set spec.suspended to false there.",
        )
    if key is not None and not _in_force(key, now):
        return (
            "key_not_in_force",
            f"The key {key.key_id!r} was revoked or has expired.",
            "Make one.",
        )
    if key is not None and key.scopes is not None and asked.name not in key.scopes:
        return (
            "scope_missing",
            f"The scopes of key {key.key_id!r} do not name the {asked.thing}.",
            f"They are: {', '.join(key.scopes) or 'none'}. Make a key with it among them.",
        )
    return None
