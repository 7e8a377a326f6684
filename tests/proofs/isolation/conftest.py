"""Fixtures of the isolation proofs.

`two`   Two: each table with org_id in turn, with rows of two orgs in it
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import LiteralString

import pytest
import pytest_asyncio
from psycopg import sql

from tests.fixtures.isolation import PlaneDatabase, TwoTenants
from tests.proofs.isolation.table_cases import TENANT_TABLES, TableCase
from tests.proofs.isolation.two_orgs import Two

_COLUMNS: LiteralString = """
SELECT attname AS name FROM pg_attribute
 WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
 ORDER BY attnum
"""


@pytest_asyncio.fixture(
    loop_scope="session", params=TENANT_TABLES, ids=[str(case) for case in TENANT_TABLES]
)
async def two(
    request: pytest.FixtureRequest,
    isolation_databases: Mapping[str, PlaneDatabase],
    two_tenants: TwoTenants,
) -> Two:
    case: TableCase = request.param
    database = isolation_databases[case.database]
    orgs = (two_tenants.victim.org_id, two_tenants.intruder.org_id)
    if case.made_here:
        orgs = (f"gone-{secrets.token_hex(4)}", f"gone-{secrets.token_hex(4)}")
        insert = sql.SQL(
            "INSERT INTO {table} SELECT made.* FROM unnest(%s::text[]) AS org_id,"
            " jsonb_populate_record(NULL::{table}, replace(%s, '{{org}}', org_id)::jsonb"
            " || jsonb_build_object('org_id', org_id)) AS made RETURNING 1"
        ).format(table=case.name)
        await database.look(insert, list(orgs), case.made_of)
    columns = await database.look(_COLUMNS, case.table)
    two = Two(case, database, *orgs, tuple(row["name"] for row in columns))
    for org_id in orgs:
        assert await two.rows_of(org_id), f"{org_id} has no row in {case}: nothing is proved"
    return two
