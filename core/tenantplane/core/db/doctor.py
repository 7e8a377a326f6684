"""Reads the catalogue and says what is unsafe, in words that tell what to do.

A service refuses to start on any finding of severity `refuse`; `tenantplane doctor db` prints all.
The decisions are pure functions of catalogue rows; only `inspect` talks to the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.statements import statement

if TYPE_CHECKING:
    from tenantplane.core.db.pool import Database

INSPECT = system_job("db.doctor", "reads the catalogue at start-up; no tenant's rows")

# How Postgres prints the policy that tp.protect writes.
_BOUND_TO_TENANT = "(org_id = ( SELECT tp.current_org() AS current_org))"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` is a role, table, policy, index or function; `message` says what to do."""

    severity: Literal["refuse", "warn"]
    subject: str
    message: str


async def inspect(db: Database) -> list[Finding]:
    """All findings of an opened (or opening) database, refusals first.

    Raises DependencyUnavailable.
    """
    async with db.unscoped_tx() as cursor:
        findings = list(judge_role(await _one(cursor, "doctor_roles"), expected="app"))
    async with db.system_tx(INSPECT) as cursor:
        role = await _one(cursor, "doctor_roles")
        findings += judge_role(role, expected="system")
        if any(f.severity == "refuse" for f in findings):
            return findings  # with a wrong role, or no schema, the rest would only confuse
        tables = await _all(cursor, "doctor_tables")
        findings += judge_tables(tables)
        findings += judge_policies(tables, await _all(cursor, "doctor_policies"))
        findings += judge_keys(await _all(cursor, "doctor_keys"))
        findings += judge_views_and_functions(await _all(cursor, "doctor_views_and_functions"))
        findings += judge_degraded(await _all(cursor, "degraded"))
    return sorted(findings, key=lambda f: (f.severity, f.subject, f.message))


def judge_role(row: Row, *, expected: Literal["app", "system"]) -> Iterator[Finding]:
    """F19: the service must not connect as owner, superuser or a role that bypasses policies."""
    name = row["role"]

    def refuse(message: str) -> Finding:
        return Finding("refuse", f"role {name}", message)

    for attribute, word in (
        ("rolsuper", "SUPERUSER"),
        ("rolbypassrls", "BYPASSRLS"),
        ("rolcreaterole", "CREATEROLE"),
        ("rolcreatedb", "CREATEDB"),
        ("rolreplication", "REPLICATION"),
    ):
        if row[attribute]:
            yield refuse(f"has {word}; give the {expected} role's DSN")
    if row["owner_role"] is None or not row["migrated"]:
        yield refuse("finds no schema tp; run the bootstrap and the migrations")
        return
    wanted = row["owner_role"].removesuffix("owner") + expected
    if row["is_owner"]:
        yield refuse(f"is the owner of the schema, or a member of it; connect as {wanted}")
    elif name != wanted:
        yield refuse(f"is not the {expected} role of this database; connect as {wanted}")
    elif row["owns_objects"]:
        yield refuse(
            "owns objects, and an owner can drop its policies; give them to the owner role"
        )
    allowed = {wanted.removesuffix(expected) + "query"} if expected == "app" else set()
    for role in sorted(set(row["memberships"]) - allowed):
        yield refuse(f"is a member of {role}; REVOKE that")
    if row["fsync"] != "on":
        yield Finding("refuse", "server", "has fsync off: what is acknowledged could be lost")
    if row["synchronous_commit"] == "off":
        yield refuse("has synchronous_commit off: what is acknowledged could be lost")


def judge_tables(tables: Iterable[Row]) -> Iterator[Finding]:
    """F18: each table is a tenant's, protected; or shared, reviewed; or closed to app."""
    for table in tables:
        for message in _table_messages(table):
            yield Finding("refuse", table["subject"], message)


def _table_messages(table: Row) -> Iterator[str]:
    if table["owned_by_other"]:
        yield "is not owned by the owner role: ALTER TABLE … OWNER TO it"
    if table["open_to_public"]:
        yield "is granted to PUBLIC: REVOKE it"
    if table["app_has_more_than_rows"]:
        yield "grants TRUNCATE, REFERENCES or TRIGGER to app: REVOKE them"
    if not table["is_tenant_table"]:
        if table["open_to_app"] and not table["reviewed"]:
            yield "has no org_id and is open to app: add org_id, or call tp.share with the reason"
        return
    if not (table["rls_enabled"] and table["rls_forced"]):
        yield "has org_id but no forced row-level security: call tp.protect"
    if not table["org_id_required"] or table["org_id_has_default"]:
        yield "org_id must be NOT NULL without a default"


def judge_policies(tables: Iterable[Row], policies: Iterable[Row]) -> Iterator[Finding]:
    """F18: app sees rows of its tenant alone, by a policy on all commands; query likewise."""
    bound = set()
    for policy in policies:
        if not (policy["for_app"] or policy["for_query"] or policy["for_everybody"]):
            continue
        expressions = {policy["reads"], policy["writes"]} - {""}
        if expressions != {_BOUND_TO_TENANT}:
            yield Finding(
                "refuse",
                policy["subject"],
                f"policy {policy['policy']} opens rows to app by another rule than the tenant: "
                "DROP it, or make it RESTRICTIVE",
            )
        elif policy["for_app"] and policy["command"] == "*" and policy["writes"]:
            bound.add(policy["subject"])
    for table in tables:
        if table["is_tenant_table"] and table["subject"] not in bound:
            yield Finding(
                "refuse", table["subject"], "has no policy for app on all commands: call tp.protect"
            )


def judge_keys(keys: Iterable[Row]) -> Iterator[Finding]:
    """F21, F22: a key without org_id joins two tenants' rows, or tells that the other's exists."""
    for key in keys:
        if key["begins_with_org"] or key["is_vector_index"]:
            continue
        if key["is_foreign_key"]:
            message = f"foreign key {key['name']} does not begin with org_id on both sides"
        elif key["is_unique"]:
            message = f"unique key {key['name']} does not begin with org_id"
        else:
            # Cross-tenant jobs have such indexes with good reason; a tenant's query never does.
            yield Finding("warn", key["subject"], f"index {key['name']} does not begin with org_id")
            continue
        yield Finding("refuse", key["subject"], message)


def judge_views_and_functions(rows: Iterable[Row]) -> Iterator[Finding]:
    """F20: whatever would read tenants' rows with its owner's rights."""
    messages = {
        "view": "needs WITH (security_invoker = true)",
        "materialised_view": "is materialised, and no policy binds its rows: make it a table",
        "definer": "is SECURITY DEFINER and not on the list: call tp.allow_execute with the reason",
        "definer_with_open_search_path": "is SECURITY DEFINER without a fixed search_path",
    }
    for row in rows:
        yield Finding("refuse", row["subject"], messages[row["kind"]])


def judge_degraded(rows: Iterable[Row]) -> Iterator[Finding]:
    """What a managed server did not let the bootstrap take from PUBLIC."""
    for row in rows:
        yield Finding(
            "warn",
            row["subject"],
            "is open to every role: injected SQL could use it. This server did not let the "
            "bootstrap revoke it; run the bootstrap as a superuser if you can",
        )


async def _one(cursor: AsyncCursor[DictRow], name: str) -> DictRow:
    row = await (await cursor.execute(statement(name))).fetchone()
    if row is None:
        raise psycopg.DataError(f"the catalogue answered nothing to {name}")
    return row


async def _all(cursor: AsyncCursor[DictRow], name: str) -> list[DictRow]:
    return await (await cursor.execute(statement(name))).fetchall()
