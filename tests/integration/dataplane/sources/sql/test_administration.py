"""An operator makes, fills, lists and drops sources by commands, as the owner."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tenantplane.core.db.doctor import inspect
from tenantplane.core.errors import Conflict, InvalidInput, NotFound
from tenantplane.dataplane.sources.sql.administration import (
    SourceName,
    create_source,
    drop_source,
    list_sources,
    load_rows,
)
from tenantplane.dataplane.sources.sql.definition import read_definition
from tests.fixtures.sql_sources import SqlPlane

SPEC = """
description: Customers
tables:
  - name: customers
    columns:
      - {name: name, type: text}
      - {name: visits, type: integer}
      - {name: seen, type: timestamp}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(sql_plane: SqlPlane) -> AsyncIterator[SourceName]:
    source = SourceName(f"org-{secrets.token_hex(4)}", "crm")
    await create_source(sql_plane.provisioned.owner_dsn, source, read_definition(SPEC))
    yield source


async def load(plane: SqlPlane, source: SourceName, *lines: str, replace: bool = False) -> int:
    return await load_rows(plane.provisioned.owner_dsn, source, "customers", lines, replace=replace)


async def test_rows_are_added_and_replaced(sql_plane: SqlPlane, fresh: SourceName) -> None:
    assert await load(sql_plane, fresh, "name,visits", "a,1", "b,") == 2
    assert await load(sql_plane, fresh, "seen,name", "2024-01-01T10:00:00+02:00,c") == 3
    question = "SELECT * FROM customers ORDER BY name"
    assert (await sql_plane.ask(fresh.org_id, "crm", question)).splitlines() == [
        "name | visits | seen",
        '"a" | 1 | null',
        '"b" | null | null',
        '"c" | null | "2024-01-01T08:00:00+00:00"',
    ]
    rows = ["name", *(f"n{i}" for i in range(2500))]
    assert await load(sql_plane, fresh, *rows, replace=True) == 2500
    assert await sql_plane.ask(fresh.org_id, "crm", "SELECT count(*) FROM customers") == (
        "count\n2500"
    )


async def test_a_bad_line_leaves_the_table_as_it_was(
    sql_plane: SqlPlane, fresh: SourceName
) -> None:
    await load(sql_plane, fresh, "name,visits", "a,1")
    with pytest.raises(InvalidInput, match="line 2, visits: is not integer") as refused:
        await load(sql_plane, fresh, "name,visits", "a,x", "b", "c,3", replace=True)
    assert [e.path for e in refused.value.errors] == ["line 2, visits", "line 3"]
    for header in ("name,nope", "name,name", ""):
        with pytest.raises(InvalidInput, match="must name columns"):
            await load(sql_plane, fresh, header, "a,b")
    assert await sql_plane.ask(fresh.org_id, "crm", "SELECT count(*) FROM customers") == "count\n1"


async def test_what_is_there_or_is_not_is_said(sql_plane: SqlPlane, fresh: SourceName) -> None:
    owner = sql_plane.provisioned.owner_dsn
    with pytest.raises(Conflict, match="has a source 'crm'"):
        await create_source(owner, fresh, read_definition(SPEC))
    with pytest.raises(Conflict, match="built-in"):
        await create_source(owner, SourceName(fresh.org_id, "usage"), read_definition(SPEC))
    with pytest.raises(InvalidInput, match="cannot name a source"):
        await create_source(owner, SourceName(fresh.org_id, "Bad"), read_definition(SPEC))
    with pytest.raises(InvalidInput, match="not an org id"):
        SourceName("No Org", "crm")
    with pytest.raises(NotFound, match="no table 'x'"):
        await load_rows(owner, fresh, "x", ["name"], replace=False)
    assert list(await list_sources(owner, fresh.org_id)) == ["crm"]
    await drop_source(owner, fresh)
    with pytest.raises(NotFound):
        await drop_source(owner, fresh)
    assert await list_sources(owner, fresh.org_id) == {}
    # Another org's source of the same name stands.
    assert list(await list_sources(owner, sql_plane.victim)) == ["crm"]


async def test_a_dropped_source_leaves_no_trace(sql_plane: SqlPlane, fresh: SourceName) -> None:
    schema = await sql_plane.schema_of(fresh.org_id)
    await drop_source(sql_plane.provisioned.owner_dsn, fresh)
    left = await sql_plane.look(
        "SELECT 1 FROM pg_namespace WHERE nspname = %(schema)s", schema=schema
    )
    assert left == []


@pytest.mark.fault("F18", "F20")
async def test_the_start_up_check_accepts_sources(sql_plane: SqlPlane, fresh: SourceName) -> None:
    assert [f for f in await inspect(sql_plane.database) if f.severity == "refuse"] == []


async def test_names_of_a_source_stand_in_no_catalogue(sql_plane: SqlPlane) -> None:
    """Whoever reads the catalogue, as app can, learns neither whose source it is nor what is in it."""
    async with sql_plane.database.tenant_tx(sql_plane.intruder) as cursor:
        for query in (
            "SELECT relname::text AS name FROM pg_class",
            "SELECT nspname::text AS name FROM pg_namespace",
            "SELECT attname::text AS name FROM pg_attribute",
            "SELECT description AS name FROM pg_description",
            "SELECT conname::text AS name FROM pg_constraint",
            "SELECT pg_get_constraintdef(oid) AS name FROM pg_constraint",
        ):
            await cursor.execute(query.encode())
            names = [row["name"] for row in await cursor.fetchall()]
            assert not [name for name in names if "canary" in (name or "")], query


async def test_the_commands(sql_plane: SqlPlane, tmp_path: Path) -> None:
    org = f"org-{secrets.token_hex(4)}"
    spec, csv = tmp_path / "crm.yaml", tmp_path / "customers.csv"
    spec.write_text(SPEC)
    csv.write_text("name,visits\nÄnne,3\n", encoding="utf-8")

    async def command(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _MAIN,
            "sql-source",
            *arguments,
            env=os.environ | {"TENANTPLANE_OWNER_DSN": sql_plane.provisioned.owner_dsn},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode().strip()

    crm = ("--org", org, "--name", "crm")
    assert await command("create", *crm, "--spec", str(spec)) == (0, f"made crm of {org}: 1 tables")
    assert await command("load", *crm, "--table", "customers", "--csv", str(csv)) == (
        0,
        "customers of crm has 1 rows",
    )
    assert await command("list", "--org", org) == (0, "crm: customers")
    assert await sql_plane.ask(org, "crm", "SELECT name FROM customers") == 'name\n"Änne"'
    assert await command("drop", *crm) == (0, f"dropped crm of {org}")
    status, said = await command("drop", *crm)
    assert status == 1
    assert "no source 'crm'" in said
    status, said = await command("create", *crm, "--spec", str(tmp_path / "nothing.yaml"))
    assert status == 1
    assert "cannot be read" in said


# The data plane's entry point, as far as it takes part in this.
_MAIN = """
import argparse, asyncio, sys
from tenantplane.core.errors import TenantplaneError
from tenantplane.dataplane.sources.sql.commands import add_sql_source
parser = argparse.ArgumentParser()
add_sql_source(parser.add_subparsers(required=True))
chosen = parser.parse_args()
try:
    asyncio.run(chosen.run(chosen))
except TenantplaneError as refused:
    sys.exit(print(refused) or 1)
"""
