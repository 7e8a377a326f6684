"""Reads and writes plans, orgs, their entitlements, issuers and keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.registry import statements
from tenantplane.controlplane.registry.schemas import LineRow, OrgRow, PlanRow, PlanTerms
from tenantplane.core.apis.plan import PlanSpec
from tenantplane.core.apis.registry import ApiKeyRequest, ApiKeyView, PlanView, TenantView
from tenantplane.core.apis.snapshot import ApiKeyGrant
from tenantplane.core.apis.tenant import OIDCIssuer, TenantSpec
from tenantplane.core.entitlements import OrgEntitlement, PlanEntitlement, RoleRow


async def lock_plan(cursor: Cursor, name: str) -> PlanRow | None:
    return await _plan(cursor, statements.LOCK_PLAN, name)


async def share_plan(cursor: Cursor, name: str) -> PlanRow | None:
    return await _plan(cursor, statements.SHARE_PLAN, name)


async def insert_plan(
    cursor: Cursor, name: str, spec: PlanSpec, writer: str, generation: int
) -> bool:
    """False where another transaction was first."""
    await cursor.execute(
        statements.INSERT_PLAN,
        {"name": name, "spec": _document(spec), "writer": writer, "generation": generation},
    )
    return cursor.rowcount == 1


async def update_plan(cursor: Cursor, plan: PlanRow) -> None:
    await cursor.execute(
        statements.UPDATE_PLAN,
        {
            "name": plan.name,
            "spec": _document(plan.spec),
            "writer": plan.writer,
            "generation": plan.generation,
            "version": plan.version,
            "price_book_version": plan.price_book_version,
        },
    )


async def replace_plan_entitlements(
    cursor: Cursor, plan: str, rows: Sequence[PlanEntitlement], roles: Sequence[RoleRow]
) -> None:
    await cursor.execute(statements.CLEAR_PLAN_ENTITLEMENTS, {"plan": plan})
    await cursor.execute(
        statements.INSERT_PLAN_ENTITLEMENTS,
        {"plan": plan, "kinds": [r.kind for r in rows], "names": [r.name for r in rows]},
    )
    await cursor.execute(statements.CLEAR_PLAN_ROLES, {"plan": plan})
    if roles:
        await cursor.execute(statements.INSERT_PLAN_ROLES, {"plan": plan} | _role_columns(roles))


async def delete_plan(cursor: Cursor, name: str) -> None:
    await cursor.execute(statements.DELETE_PLAN, {"name": name})


async def plan_names(cursor: Cursor) -> list[str]:
    await cursor.execute(statements.PLAN_NAMES)
    return [row["name"] for row in await cursor.fetchall()]


async def plan_views(cursor: Cursor, name: str | None = None) -> list[PlanView]:
    await cursor.execute(statements.PLANS, {"name": name})
    return [
        PlanView(
            name=row["name"],
            spec=PlanSpec.model_validate(row["spec"]),
            writer=row["writer"],
            generation=row["generation"],
            version=row["version"],
            tenants=row["tenants"],
        )
        for row in await cursor.fetchall()
    ]


async def tenants_of_plan(cursor: Cursor, plan: str) -> list[str]:
    return await _org_ids(cursor, statements.TENANTS_OF_PLAN, plan=plan)


async def trees_under_plan(cursor: Cursor, plan: str) -> list[str]:
    return await _org_ids(cursor, statements.TREES_UNDER_PLAN, plan=plan)


async def tree_under(cursor: Cursor, root_org_id: str, org_id: str) -> list[str]:
    return await _org_ids(cursor, statements.TREE_UNDER, root_org_id=root_org_id, org_id=org_id)


async def lock_roots_of_plan(cursor: Cursor, plan: str) -> None:
    await cursor.execute(statements.ROOTS_OF_PLAN, {"plan": plan})
    await lock_roots(cursor, [row["root_org_id"] for row in await cursor.fetchall()])


async def lock_roots(cursor: Cursor, roots: Sequence[str]) -> None:
    await cursor.execute(statements.LOCK_ROOTS, {"roots": list(roots)})


async def read_org(cursor: Cursor, org_id: str) -> OrgRow | None:
    return await _org(cursor, statements.READ_ORG, org_id)


async def lock_org(cursor: Cursor, org_id: str) -> OrgRow | None:
    return await _org(cursor, statements.LOCK_ORG, org_id)


async def is_purged(cursor: Cursor, org_id: str) -> bool:
    await cursor.execute(statements.IS_PURGED, {"org_id": org_id})
    return await cursor.fetchone() is not None


async def insert_org(cursor: Cursor, org: OrgRow) -> bool:
    """False where another transaction was first."""
    await cursor.execute(statements.INSERT_ORG, _org_parameters(org))
    return cursor.rowcount == 1


async def update_org(cursor: Cursor, org: OrgRow) -> None:
    await cursor.execute(statements.UPDATE_ORG, _org_parameters(org))


async def place_tree(cursor: Cursor, root_org_id: str, plane: str) -> list[str]:
    """The orgs that were waiting for a plane."""
    return await _org_ids(cursor, statements.PLACE_TREE, root_org_id=root_org_id, plane=plane)


async def waiting_roots(cursor: Cursor, region: str) -> list[str]:
    return await _org_ids(cursor, statements.WAITING_ROOTS, region=region)


async def delete_org(cursor: Cursor, org_id: str) -> None:
    """The org with everything that hangs on it; its name is kept as used."""
    await cursor.execute(statements.INSERT_PURGED, {"org_id": org_id})
    await cursor.execute(statements.RELEASE_ISSUERS, {"org_id": org_id})
    await cursor.execute(statements.DELETE_ORG, {"org_id": org_id})


async def children(cursor: Cursor, org: OrgRow) -> list[tuple[str, str]]:
    """Org id and status of each org right under `org`."""
    await cursor.execute(
        statements.CHILDREN, {"root_org_id": org.root_org_id, "org_id": org.org_id}
    )
    return [(row["org_id"], row["status"]) for row in await cursor.fetchall()]


async def replace_org_entitlements(
    cursor: Cursor, org_id: str, rows: Sequence[OrgEntitlement], roles: Sequence[RoleRow]
) -> None:
    await cursor.execute(statements.CLEAR_ORG_ENTITLEMENTS, {"org_id": org_id})
    await cursor.execute(
        statements.INSERT_ORG_ENTITLEMENTS,
        {
            "org_id": org_id,
            "kinds": [r.kind for r in rows],
            "names": [r.name for r in rows],
            "effects": [r.effect for r in rows],
        },
    )
    await cursor.execute(statements.CLEAR_ORG_ROLES, {"org_id": org_id})
    if roles:
        await cursor.execute(statements.INSERT_ORG_ROLES, {"org_id": org_id} | _role_columns(roles))


async def replace_issuers(
    cursor: Cursor, org_id: str, issuers: Sequence[OIDCIssuer]
) -> OIDCIssuer | None:
    """The first issuer that another org holds with that audience, and nothing else then."""
    await cursor.execute(statements.CLEAR_ISSUERS, {"org_id": org_id})
    await cursor.execute(statements.RELEASE_ISSUERS, {"org_id": org_id})
    for issuer in issuers:
        named = {"org_id": org_id, "issuer": issuer.issuer, "audience": issuer.audience}
        await cursor.execute(statements.HOLD_ISSUER, named)
        if cursor.rowcount == 0:
            return issuer
        await cursor.execute(statements.INSERT_ISSUER, named | {"rules": _document(issuer)})
    return None


async def issuers_named(cursor: Cursor, issuer: str) -> list[tuple[str, OIDCIssuer]]:
    await cursor.execute(statements.ISSUERS_BY_NAME, {"issuer": issuer})
    return [
        (row["org_id"], OIDCIssuer.model_validate(row["rules"])) for row in await cursor.fetchall()
    ]


async def lines(cursor: Cursor, org_ids: Sequence[str]) -> dict[str, LineRow]:
    """The orgs and all above them, by id."""
    await cursor.execute(statements.LINES, {"org_ids": list(org_ids)})
    return {
        row["org_id"]: LineRow(
            **row
            | {
                "path": tuple(row["path"]),
                "entitlements": tuple(OrgEntitlement(*e) for e in row["entitlements"]),
                "role_rows": _role_rows(row["role_rows"]),
            }
        )
        for row in await cursor.fetchall()
    }


async def plan_terms(cursor: Cursor, names: Sequence[str]) -> dict[str, PlanTerms]:
    await cursor.execute(statements.PLANS_OF_LINES, {"names": list(names)})
    return {
        row["name"]: PlanTerms(
            PlanSpec.model_validate(row["spec"]),
            tuple(PlanEntitlement(*e) for e in row["entitlements"]),
            _role_rows(row["role_rows"]),
        )
        for row in await cursor.fetchall()
    }


async def key_grants(cursor: Cursor, org_ids: Sequence[str]) -> dict[str, list[ApiKeyGrant]]:
    """Keys in force, by org."""
    await cursor.execute(statements.KEYS_OF_ORGS, {"org_ids": list(org_ids)})
    grants: dict[str, list[ApiKeyGrant]] = {}
    for row in await cursor.fetchall():
        grants.setdefault(row.pop("org_id"), []).append(ApiKeyGrant.model_validate(row))
    return grants


async def insert_key(
    cursor: Cursor, org_id: str, key_id: str, sha256: bytes, request: ApiKeyRequest
) -> ApiKeyView:
    await cursor.execute(
        statements.INSERT_KEY,
        {
            "org_id": org_id,
            "key_id": key_id,
            "sha256": sha256,
            "name": request.name,
            "user_id": request.user_id,
            "roles": list(request.roles),
            "scopes": None if request.scopes is None else list(request.scopes),
            "expires_in_seconds": request.expires_in_seconds,
        },
    )
    row = await cursor.fetchone()
    assert row is not None
    return ApiKeyView.model_validate(row)


async def keys(cursor: Cursor, org_id: str) -> list[ApiKeyView]:
    await cursor.execute(statements.KEYS, {"org_id": org_id})
    return [ApiKeyView.model_validate(row) for row in await cursor.fetchall()]


async def revoke_key(cursor: Cursor, org_id: str, key_id: str) -> ApiKeyView | None:
    await cursor.execute(statements.REVOKE_KEY, {"org_id": org_id, "key_id": key_id})
    row = await cursor.fetchone()
    return None if row is None else ApiKeyView.model_validate(row)


async def snapshot_version(cursor: Cursor, org_id: str) -> int:
    """0 where the org has no plane yet."""
    await cursor.execute(statements.SNAPSHOT_VERSION, {"org_id": org_id})
    row = await cursor.fetchone()
    return 0 if row is None else int(row["version"])


async def view_org(cursor: Cursor, org_id: str, live_seconds: int) -> TenantView | None:
    await cursor.execute(statements.VIEW_ORG, {"org_id": org_id, "live_seconds": live_seconds})
    row = await cursor.fetchone()
    return None if row is None else TenantView.model_validate(row)


async def view_orgs(cursor: Cursor, after: str, limit: int, live_seconds: int) -> list[TenantView]:
    await cursor.execute(
        statements.VIEW_ORGS, {"after": after, "limit": limit, "live_seconds": live_seconds}
    )
    return [TenantView.model_validate(row) for row in await cursor.fetchall()]


async def _plan(cursor: Cursor, query: LiteralString, name: str) -> PlanRow | None:
    await cursor.execute(query, {"name": name})
    row = await cursor.fetchone()
    if row is None:
        return None
    return PlanRow(**row | {"spec": PlanSpec.model_validate(row["spec"])})


async def _org(cursor: Cursor, query: LiteralString, org_id: str) -> OrgRow | None:
    await cursor.execute(query, {"org_id": org_id})
    row = await cursor.fetchone()
    if row is None:
        return None
    return OrgRow(
        **row | {"spec": TenantSpec.model_validate(row["spec"]), "path": tuple(row["path"])}
    )


async def _org_ids(cursor: Cursor, query: LiteralString, **parameters: str) -> list[str]:
    await cursor.execute(query, parameters)
    return [row["org_id"] for row in await cursor.fetchall()]


def _org_parameters(org: OrgRow) -> dict[str, Any]:
    return {
        "org_id": org.org_id,
        "root_org_id": org.root_org_id,
        "parent": org.parent,
        "path": list(org.path),
        "status": org.status,
        "spec": _document(org.spec),
        "plan": org.plan,
        "region": org.region,
        "writer": org.writer,
        "generation": org.generation,
        "token_epoch": org.token_epoch,
    }


def _role_rows(rows: list[list[Any]]) -> tuple[RoleRow, ...]:
    return tuple(RoleRow(*row) for row in rows)


def _role_columns(rows: Sequence[RoleRow]) -> dict[str, Any]:
    return {
        "kinds": [row.kind for row in rows],
        "names": [row.name for row in rows],
        "roles": [row.role for row in rows],
    }


def _document(model: PlanSpec | TenantSpec | OIDCIssuer) -> Jsonb:
    return Jsonb(model.model_dump(mode="json", by_alias=True, exclude_none=True))
