from __future__ import annotations

import asyncio
import secrets
import shutil
from pathlib import Path

import psycopg
import pytest

from tenantplane.core.db.bootstrap import RolePasswords, bootstrap
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.migrate import TENANCY_MIGRATIONS, migrate
from tenantplane.core.errors import ConfigurationRefused, DependencyUnavailable

TOY_PLANE = Path(__file__).parent / "toy_plane"
# The tenancy schema first, then the plane's own.
ALL = [
    *(f"tp/{path.stem}" for path in sorted(TENANCY_MIGRATIONS.glob("*.sql"))),
    "plane/0001_notes",
]


@pytest.fixture
async def owner_dsn(postgres: EmbeddedPostgres) -> str:
    """A database that is bootstrapped and not yet migrated."""
    passwords = RolePasswords.generate()
    name = f"data_{secrets.token_hex(4)}"
    made = await bootstrap(
        postgres.admin_dsn(), "data", passwords, dbname=name, role_prefix=f"tp_{name}"
    )
    assert made.degraded == ()
    return postgres.dsn(made.role("owner"), passwords.owner, name)


@pytest.fixture
def plane(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TOY_PLANE, tmp_path / "plane"))


async def run(owner_dsn: str, plane: Path) -> list[str]:
    return await asyncio.to_thread(migrate, owner_dsn, plane)


async def answer(owner_dsn: str, query: str) -> object:
    async with await psycopg.AsyncConnection.connect(owner_dsn) as connection:
        row = await (await connection.execute(query.encode())).fetchone()
        assert row is not None
        return row[0]


async def test_what_is_missing_is_applied_in_order_and_once(owner_dsn: str, plane: Path) -> None:
    assert await run(owner_dsn, plane) == ALL
    assert await run(owner_dsn, plane) == []
    (plane / "0002_more.sql").write_text(
        "-- Two statements and a literal percent sign.\n"
        "INSERT INTO epoch VALUES (2); INSERT INTO epoch SELECT 3 WHERE 'a%' LIKE 'a%';"
    )
    (plane / "0003_most.sql").write_text("-- Three.\nINSERT INTO epoch VALUES (4);")
    assert await run(owner_dsn, plane) == ["plane/0002_more", "plane/0003_most"]
    assert await answer(owner_dsn, "SELECT count(*) FROM epoch") == 4


async def test_two_at_once_apply_each_file_once(owner_dsn: str, plane: Path) -> None:
    applied = await asyncio.gather(*(run(owner_dsn, plane) for _ in range(4)))
    assert sorted(applied, key=len) == [[], [], [], ALL]


async def test_an_edited_or_lost_file_is_refused(owner_dsn: str, plane: Path) -> None:
    await run(owner_dsn, plane)
    notes = plane / "0001_notes.sql"
    original = notes.read_text()
    notes.write_text(original + "-- an afterthought\n")
    with pytest.raises(ConfigurationRefused, match=r"edited \['plane/0001_notes'\]"):
        await run(owner_dsn, plane)
    notes.rename(plane / "0001_renamed.sql").write_text(original)
    with pytest.raises(ConfigurationRefused, match=r"gone \['plane/0001_notes'\]"):
        await run(owner_dsn, plane)


async def test_a_file_that_fails_leaves_nothing_of_itself(owner_dsn: str, plane: Path) -> None:
    await run(owner_dsn, plane)
    broken = plane / "0002_broken.sql"
    broken.write_text("-- Fails half-way.\nINSERT INTO epoch VALUES (9);\nSELECT 1/0;")
    with pytest.raises(ConfigurationRefused, match="division by zero"):
        await run(owner_dsn, plane)
    assert await answer(owner_dsn, "SELECT max(number) FROM epoch") == 1
    broken.write_text("-- Mended.\nINSERT INTO epoch VALUES (2);")
    assert await run(owner_dsn, plane) == ["plane/0002_broken"]


async def test_a_table_without_org_id_cannot_be_protected(owner_dsn: str, plane: Path) -> None:
    for number, columns in enumerate(("x int", "org_id text", "org_id text NOT NULL DEFAULT 'a'")):
        (plane / "0002_bad.sql").write_text(
            f"-- Bad {number}.\nCREATE TABLE bad ({columns}); SELECT tp.protect('bad');"
        )
        with pytest.raises(ConfigurationRefused, match="needs a column org_id text NOT NULL"):
            await run(owner_dsn, plane)


async def test_without_bootstrap_or_server_it_says_so(
    postgres: EmbeddedPostgres, plane: Path
) -> None:
    with pytest.raises(ConfigurationRefused, match="Run the bootstrap first"):
        await run(postgres.admin_dsn(), plane)
    with pytest.raises(DependencyUnavailable):
        await run(postgres.dsn("nobody", "wrong-word", "postgres"), plane)


async def test_a_backfill_by_the_owner_reaches_every_tenant(owner_dsn: str, plane: Path) -> None:
    """Under FORCE the owner too is bound: its explicit policy keeps a backfill from doing nothing."""
    await run(owner_dsn, plane)
    async with await psycopg.AsyncConnection.connect(owner_dsn) as connection:
        await connection.execute("INSERT INTO note (org_id, body) VALUES ('a', ''), ('b', '')")
        assert (await connection.execute("UPDATE note SET body = 'x'")).rowcount == 2
