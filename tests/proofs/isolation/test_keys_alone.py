"""Keys, references and namespaces alone: the same ids in two orgs stand side by side, no row refers
into another org, and no stored id begins with another's name. They bind every role alike."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final, LiteralString

import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.fixtures.isolation import PlaneDatabase, Seen, TwoTenants
from tests.fixtures.proofs import ProofCases
from tests.proofs.isolation import catalogue
from tests.proofs.isolation.two_orgs import Opened, Two, opened, states

pytestmark = pytest.mark.proof

ALREADY_THERE: Final = "23505"
NO_SUCH_PARENT: Final = "23503"
NOT_OF_THE_NAMESPACE: Final = "23514"

# Child and parent, both with org_id. A new one has its case here, or the suite fails.
REFERENCES: Final = (
    ("control", "controlplane.api_key", "controlplane.org"),
    ("control", "controlplane.cap_raise", "controlplane.org"),
    ("control", "controlplane.issuer", "controlplane.org"),
    ("control", "controlplane.org_entitlement", "controlplane.org"),
    ("control", "controlplane.org_role_bound", "controlplane.org"),
    ("data", "dataplane.audit_record", "dataplane.intent"),
    ("data", "dataplane.outcome", "dataplane.intent"),
)
_REFERENCES: Final[LiteralString] = """
SELECT DISTINCT format('%I.%I', hn.nspname, h.relname) AS child,
       format('%I.%I', tn.nspname, t.relname) AS parent
  FROM pg_constraint f
  JOIN pg_class h ON h.oid = f.conrelid JOIN pg_namespace hn ON hn.oid = h.relnamespace
  JOIN pg_class t ON t.oid = f.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
 WHERE f.contype = 'f' AND f.conparentid = 0
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = h.oid AND a.attname = 'org_id')
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'org_id')
"""
_OTHER_RULES: Final[LiteralString] = """
SELECT quote_ident(conname) AS name FROM pg_constraint
 WHERE conrelid = %s::regclass
   AND (contype = 'c' OR contype = 'f' AND confrelid IS DISTINCT FROM to_regclass(%s)) AND conislocal
"""


async def _without_other_rules(two: Two, inside: Opened, parent: str = "") -> None:
    """Checks, and references to others than the parent: each would refuse the row before."""
    for rule in await two.database.look(_OTHER_RULES, two.case.table, parent):
        drop = sql.SQL("ALTER TABLE {table} DROP CONSTRAINT {name}")
        await inside.open(
            drop.format(table=two.case.name, name=sql.SQL(rule["name"]))  # quoted by the catalogue
        )


def _of(org_id: str, row: Mapping[str, Any]) -> Jsonb:
    return Jsonb({**row, "org_id": org_id})


@pytest.mark.req("R6")
@pytest.mark.fault("F22")
async def test_the_same_ids_stand_side_by_side_in_two_orgs(
    two: Two, proof_cases: ProofCases
) -> None:
    """A key without org_id would refuse the second, and so tell that the first is there."""
    twins = [f"twin-{secrets.token_hex(4)}" for _ in range(2)]
    rows = await two.rows_of(two.victim)
    async with opened(two.database) as inside:
        await _without_other_rules(two, inside)
        for row in rows:
            for twin in twins:
                await inside.become("owner")
                added = await inside.keep(two.insert(), _of(twin, row))
                assert added == Seen(1, []), row
            assert states(await inside.attempt(two.insert(), Jsonb(row))) == {ALREADY_THERE}
    proof_cases.add(3 * len(rows))


@pytest.mark.req("R6")
@pytest.mark.parametrize("name", ["control", "data"])
async def test_every_reference_between_tenant_tables_has_its_case(
    isolation_databases: Mapping[str, PlaneDatabase], name: str
) -> None:
    found = {(r["child"], r["parent"]) for r in await isolation_databases[name].look(_REFERENCES)}
    declared = {(child, parent) for database, child, parent in REFERENCES if database == name}
    catalogue.require_declared(
        "A foreign key between tables with org_id",
        found,
        declared,
        "REFERENCES of tests/proofs/isolation/test_keys_alone.py",
    )


@pytest.mark.req("R6")
@pytest.mark.fault("F21")
@pytest.mark.parametrize(
    ("name", "child", "parent"), REFERENCES, ids=[f"{c}-{p}" for _, c, p in REFERENCES]
)
async def test_no_row_refers_into_another_org(
    isolation_databases: Mapping[str, PlaneDatabase],
    two_tenants: TwoTenants,
    name: str,
    child: str,
    parent: str,
    proof_cases: ProofCases,
) -> None:
    """The parent is there, under the same id and another org. Whether it is, is not told (F22)."""
    from tests.proofs.isolation.table_cases import TENANT_TABLES  # noqa: PLC0415

    case = next(c for c in TENANT_TABLES if c.table == child)
    database = isolation_databases[name]
    columns = await database.look(
        "SELECT attname AS name FROM pg_attribute WHERE attrelid = %s::regclass"
        " AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        child,
    )
    names = tuple(column["name"] for column in columns)
    two = Two(case, database, two_tenants.victim.org_id, two_tenants.intruder.org_id, names)
    row = (await two.rows_of(two.victim))[0]
    async with opened(database) as inside:
        await _without_other_rules(two, inside, parent)
        answers = [
            await inside.attempt(two.insert(), _of(f"orphan-{secrets.token_hex(4)}", row)),
            await inside.attempt(two.insert(), _of("never", row)),
        ]
    assert states(*answers) == {NO_SUCH_PARENT}
    proof_cases.add(len(answers))


@pytest.mark.req("R5", "R6")
@pytest.mark.fault("F24")
async def test_a_stored_id_begins_with_its_own_org(two: Two, proof_cases: ProofCases) -> None:
    """Whoever writes: the form of a stored id is a rule of the table."""
    row = (await two.rows_of(two.intruder))[0]
    mine, theirs = f"{two.intruder}::", f"{two.victim}::"
    namespaced = [k for k, v in row.items() if isinstance(v, str) and v.startswith(mine)]
    async with opened(two.database) as inside:
        for column in namespaced:
            for other in (row[column].replace(mine, theirs), row[column].removeprefix(mine)):
                done = await inside.attempt(two.insert(), Jsonb({**row, column: other}))
                assert states(done) == {NOT_OF_THE_NAMESPACE}, (column, other, done)
                proof_cases.add()
