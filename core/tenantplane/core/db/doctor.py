"""Reads the catalogue and says what is unsafe, in words that tell what to do.

A service refuses to start on any finding of severity `refuse`; `tenantplane doctor db` prints all.
The decisions are pure functions of catalogue rows; only `inspect` talks to the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, LiteralString

import psycopg
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.statements import statement

if TYPE_CHECKING:
    from tenantplane.core.db.pool import Database

INSPECT = system_job("db.doctor", "reads the catalogue at start-up; no tenant's rows")

# What is looked at, in the words of who reads the answer.
CHECKS: Mapping[str, str] = {
    "roles": "app, system and query are what they must be, and no more; commits are durable",
    "tables": "forced row-level security on every table with org_id; grants to nobody else",
    "policies": "each binds all commands to the proven tenant",
    "keys": "keys and foreign keys are composite and begin with org_id, as do indexes",
    "ways around": "no unsafe view, rule, function, trigger, schema or publication",
    "public": "what every role may do was taken from PUBLIC",
    "context key": "the database accepts the key that tenant contexts are signed with",
}
# An org that nobody has: a proof for it shows that the key is good, and opens no rows.
_NOBODY = "tenantplane-doctor"

# How Postgres prints the policy that tp.protect writes.
_BOUND_TO_TENANT = "(org_id = ( SELECT tp.current_org() AS current_org))"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` is a role, table, policy, index or function; `message` says what to do; `check` is
    the one of CHECKS that found it."""

    severity: Literal["refuse", "warn"]
    subject: str
    message: str
    check: str = field(default="", compare=False)


async def inspect(db: Database) -> list[Finding]:
    """All findings of an opened (or opening) database, refusals first.

    Raises DependencyUnavailable.
    """
    async with db.unscoped_tx() as cursor:
        findings = _of("roles", judge_role(await _one(cursor, "doctor_roles"), expected="app"))
    async with db.system_tx(INSPECT) as cursor:
        role = await _one(cursor, "doctor_roles")
        findings += _of("roles", judge_role(role, expected="system"))
        if any(f.severity == "refuse" for f in findings):
            return findings  # with a wrong role, or no schema, the rest would only confuse
        findings += _of("roles", judge_query_role(await _one(cursor, "doctor_query_role")))
        tables = await _all(cursor, "doctor_tables")
        findings += _of("tables", judge_tables(tables))
        policies = await _all(cursor, "doctor_policies")
        findings += _of("policies", judge_policies(tables, policies))
        findings += _of("keys", judge_keys(await _all(cursor, "doctor_keys")))
        code = await _all(cursor, "doctor_views_and_functions")
        findings += _of("ways around", judge_views_and_functions(code))
        findings += _of("public", judge_degraded(await _all(cursor, "degraded")))
    findings += _of("context key", await _context_key(db))
    return sorted(findings, key=lambda f: (f.severity, f.subject, f.message))


def _of(check: str, findings: Iterable[Finding]) -> list[Finding]:
    assert check in CHECKS
    return [replace(finding, check=check) for finding in findings]


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
    for role in table["granted_to_others"]:
        yield f"is granted to {role}, none of this database's roles: REVOKE it"
    if table["query_writes"]:
        yield "lets the query role write, and a model's SQL only reads: REVOKE it"
    if not table["is_tenant_table"]:
        if table["open_to_app"] and not table["reviewed"]:
            yield "has no org_id and is open to app: add org_id, or call tp.share with the reason"
        return
    if not (table["rls_enabled"] and table["rls_forced"]):
        yield "has org_id but no forced row-level security: call tp.protect"
    if not table["org_id_required"] or table["org_id_has_default"]:
        yield "org_id must be NOT NULL without a default"
    if not table["org_id_is_plain"]:
        yield "org_id must be text under a deterministic collation: two orgs would look like one"


def judge_policies(tables: Iterable[Row], policies: Iterable[Row]) -> Iterator[Finding]:
    """F18: app sees rows of its tenant alone, by a policy on all commands; query likewise."""
    bound, readable = set(), set()
    for policy in policies:
        for role in policy["for_others"]:
            yield Finding(
                "refuse",
                policy["subject"],
                f"policy {policy['policy']} is for {role}, none of this database's roles: DROP it",
            )
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
            continue
        if policy["for_app"] and policy["command"] == "*" and policy["writes"]:
            bound.add(policy["subject"])
        if policy["for_query"] and policy["command"] == "r":
            readable.add(policy["subject"])
    for table in tables:
        if not table["is_tenant_table"]:
            continue
        subject = table["subject"]
        if subject not in bound:
            yield Finding(
                "refuse", subject, "has no policy for app on all commands: call tp.protect"
            )
        if table["open_to_query"] and subject not in readable:
            yield Finding(
                "refuse",
                subject,
                "is granted to query but was not opened by tp.allow_query: REVOKE, or call it",
            )


def judge_keys(keys: Iterable[Row]) -> Iterator[Finding]:
    """F21, F22: a key without org_id joins two tenants' rows, or tells that the other's exists."""
    for key in keys:
        subject, name = key["subject"], key["name"]
        if key["is_foreign_key"] and not key["from_tenant_table"]:
            message = f"foreign key {name} ties a table of no tenant to a tenant's rows: add org_id"
        elif key["is_foreign_key"] and not key["is_validated"]:
            message = f"foreign key {name} is NOT VALID: VALIDATE CONSTRAINT"
        elif key["begins_with_org"] or key["is_vector_index"]:
            continue
        elif key["is_foreign_key"]:
            message = f"foreign key {name} does not begin with org_id on both sides"
        elif key["is_unique"]:
            message = f"unique key {name} does not begin with org_id"
        else:
            # Cross-tenant jobs have such indexes with good reason; a tenant's query never does.
            yield Finding("warn", subject, f"index {name} does not begin with org_id")
            continue
        yield Finding("refuse", subject, message)


_WAYS_AROUND: Mapping[str, str] = {
    "view": "needs WITH (security_invoker = true)",
    "view_of_other": "is not owned by the owner role: ALTER VIEW … OWNER TO it",
    "materialised_view": "is materialised, and no policy binds its rows: make it a table",
    "rule": "has a rule, which acts with the owner's rights: DROP it",
    "disabled_trigger": "has a disabled trigger, which may be a foreign key's: ENABLE TRIGGER ALL",
    "definer": "is SECURITY DEFINER and not on the list: call tp.allow_execute with the reason",
    "definer_of_other": "is SECURITY DEFINER and not the owner role's: ALTER FUNCTION … OWNER TO it",
    "definer_for_query": "is SECURITY DEFINER, and a model's SQL may call it: REVOKE it from query",
    "definer_with_open_search_path": "is SECURITY DEFINER without a fixed search_path",
    "definer_with_writable_search_path": "is SECURITY DEFINER, and others can put objects into its "
    "search_path: name closed schemas, and pg_temp last",
    "leakproof": "is LEAKPROOF, and sees rows before the policies have judged them: NOT LEAKPROOF",
    "schema": "lets a service's role create objects: REVOKE CREATE",
}
_WORTH_KNOWING: Mapping[str, str] = {
    "publication": "sends rows to subscribers past all policies: know each of them, or DROP it",
    "event_trigger": "runs at every change of the schema: know what it does, or DROP it",
}


def judge_views_and_functions(rows: Iterable[Row]) -> Iterator[Finding]:
    """F20: whatever would read tenants' rows with its owner's rights."""
    for row in rows:
        if row["kind"] in _WORTH_KNOWING:
            yield Finding("warn", row["subject"], _WORTH_KNOWING[row["kind"]])
        else:
            yield Finding("refuse", row["subject"], _WAYS_AROUND[row["kind"]])


def judge_query_role(row: Row) -> Iterator[Finding]:
    """R3: what a model's SQL runs as has no power of its own, and comes in by SET ROLE alone."""
    subject = f"role {row['role']}"
    if row["can_login"]:
        yield Finding("refuse", subject, "can log in: ALTER ROLE … NOLOGIN")
    if row["powers"]:
        yield Finding("refuse", subject, "has powers beyond reading: run the bootstrap again")
    for role in row["memberships"]:
        yield Finding("refuse", subject, f"is a member of {role}; REVOKE that")


def judge_context_key(key_id: str, accepted: bool, keys: Iterable[Row]) -> Iterator[Finding]:
    """R2: the key that this service signs with is one that the database accepts, and for how long."""
    subject = f"context key {key_id}"
    if not accepted:
        yield Finding(
            "refuse",
            subject,
            "is not accepted by this database: install it, or sign with one that is",
        )
        return
    left = next((k["seconds_left"] for k in keys if k["key_id"] == key_id), None)
    if left is not None:
        yield Finding(
            "warn", subject, f"ends in {left:.0f} s, and this service signs with it: roll it over"
        )


def judge_degraded(rows: Iterable[Row]) -> Iterator[Finding]:
    """What a managed server did not let the bootstrap take from PUBLIC."""
    for row in rows:
        yield Finding(
            "warn",
            row["subject"],
            "is open to every role: injected SQL could use it. This server did not let the "
            "bootstrap revoke it; run the bootstrap as a superuser if you can",
        )


async def _context_key(db: Database) -> list[Finding]:
    async with db.tenant_tx(_NOBODY) as tenant:
        try:
            await tenant.execute("SELECT tp.current_org() AS org")
            accepted = True
        except psycopg.errors.InsufficientPrivilege:
            accepted = False
    async with db.system_tx(INSPECT) as cursor:
        if not (await _one(cursor, "doctor_context_keys"))["readable"]:
            return [Finding("refuse", "context keys", "cannot be read: run the migrations")]
        keys = await _all(cursor, "context_keys")
    return list(judge_context_key(db.context_key_id, accepted, keys))


async def _one(cursor: AsyncCursor[DictRow], name: LiteralString) -> DictRow:
    row = await (await cursor.execute(statement(name))).fetchone()
    if row is None:
        raise psycopg.DataError(f"the catalogue answered nothing to {name}")
    return row


async def _all(cursor: AsyncCursor[DictRow], name: LiteralString) -> list[DictRow]:
    return await (await cursor.execute(statement(name))).fetchall()
