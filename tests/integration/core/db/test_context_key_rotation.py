"""The context key is rotated by the commands that an administrator has, while orgs are served."""

from __future__ import annotations

import argparse
import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from psycopg.errors import InsufficientPrivilege
from pydantic import SecretStr

from tenantplane.core.db.context_key_commands import add_context_key_commands
from tenantplane.core.db.context_keys import context_keys, retire_context_key
from tenantplane.core.db.pool import Database
from tenantplane.core.db.proof import make_proof
from tenantplane.core.db.provision import Provisioned
from tenantplane.core.errors import ConfigurationRefused, Conflict, InvalidInput, NotFound
from tests.fixtures.postgres import ProvisionDatabase

TOY_PLANE = Path(__file__).parent / "toy_plane"


class Administrator:
    """Runs `context-key …` as a plane's program does."""

    def __init__(self, provisioned: Provisioned, monkeypatch: pytest.MonkeyPatch) -> None:
        self._environment = monkeypatch
        monkeypatch.setenv("TENANTPLANE_OWNER_DSN", provisioned.owner_dsn)

    async def run(self, *arguments: str, key: bytes | str = b"") -> None:
        given = key.hex() if isinstance(key, bytes) else key
        self._environment.setenv("TENANTPLANE_NEW_CONTEXT_KEY", given)
        parser = argparse.ArgumentParser()
        add_context_key_commands(parser.add_subparsers())
        chosen = parser.parse_args(["context-key", *arguments])
        await chosen.run(chosen)


@pytest.fixture
async def provisioned(provision_database: ProvisionDatabase) -> Provisioned:
    return await provision_database("data", TOY_PLANE)


@pytest.fixture
def administrator(provisioned: Provisioned, monkeypatch: pytest.MonkeyPatch) -> Administrator:
    return Administrator(provisioned, monkeypatch)


class Service:
    """Replicas under load: each task writes for its org, through whichever replica serves."""

    def __init__(self, first: Database) -> None:
        self.serving = first
        self.done: Counter[str] = Counter()
        self._moved = asyncio.Condition()
        self._stop = False

    async def load(self, org: str) -> None:
        while not self._stop:
            replica = self.serving
            async with replica.tenant_tx(org) as cursor:
                await cursor.execute(
                    "INSERT INTO note (org_id, body) VALUES (%(org_id)s, %(body)s)",
                    {"org_id": org, "body": replica.name},
                )
                found = await cursor.execute("SELECT DISTINCT org_id FROM note")
                assert [row["org_id"] for row in await found.fetchall()] == [org]
            async with self._moved:
                self.done[replica.name] += 1
                self._moved.notify_all()

    async def served(self, name: str, times: int) -> None:
        """Returns when `times` more transactions have been served by the replica `name`."""
        wanted = self.done[name] + times
        async with self._moved:
            await self._moved.wait_for(lambda: self.done[name] >= wanted)

    def end(self) -> None:
        self._stop = True


@pytest.fixture
async def old(provisioned: Provisioned) -> AsyncIterator[Database]:
    database = Database(provisioned.settings, name="old")
    await database.open()
    yield database
    await database.close()


def signing_with(provisioned: Provisioned, key_id: str, key: bytes, name: str) -> Database:
    changed = {"context_key_id": key_id, "context_key": SecretStr(key.hex())}
    return Database(provisioned.settings.model_copy(update=changed), name=name)


@pytest.mark.req("R2", "R3")
@pytest.mark.fault("F15")
async def test_the_key_is_rotated_under_load_without_an_error_and_the_old_one_is_refused(
    provisioned: Provisioned, administrator: Administrator, old: Database
) -> None:
    key = secrets.token_bytes(32)
    service = Service(old)
    new = signing_with(provisioned, "k2", key, "new")
    try:
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for number in range(8):
                tasks.create_task(service.load(f"org-{number}"))
            await service.served("old", 50)
            await administrator.run("install", "k2", key=key)
            await service.served("old", 50)  # both are valid: who has not rolled yet goes on
            await new.open()
            service.serving = new
            await service.served("new", 50)
            await administrator.run("retire", "k1", "--after", "0")
            await service.served("new", 50)
            service.end()
        assert service.done["old"] >= 100
        assert service.done["new"] >= 100
        with pytest.raises(InsufficientPrivilege, match="tenant context refused") as refused:
            async with old.tenant_tx("org-0") as cursor:
                await cursor.execute("SELECT body FROM note")
        assert refused.value.sqlstate == "42501"
    finally:
        await new.close()


@pytest.mark.req("R3")
@pytest.mark.fault("F15")
async def test_no_proof_of_a_retired_key_is_accepted_however_long_it_would_live(
    provisioned: Provisioned, administrator: Administrator, old: Database
) -> None:
    await administrator.run("install", "k2", key=secrets.token_bytes(32))
    await administrator.run("retire", "k1", "--after", "0")
    stolen = make_proof(
        "k1", provisioned.settings.context_key_bytes(), "acme", int(old.clock.unix()) + 3600
    )
    async with old.unscoped_tx() as cursor:
        await cursor.execute(
            "SELECT set_config('app.current_tenant', 'acme', true),"
            " set_config('app.tenant_proof', %s, true)",
            (stolen,),
        )
        with pytest.raises(InsufficientPrivilege, match="tenant context refused"):
            await cursor.execute("SELECT body FROM note")


async def test_the_list_says_how_long_each_key_is_valid(
    administrator: Administrator, capsys: pytest.CaptureFixture[str]
) -> None:
    await administrator.run("install", "k2", key=secrets.token_bytes(32))
    await administrator.run("install", "k3", key=secrets.token_bytes(32))
    await administrator.run("retire", "k1", "--after", "0")
    await administrator.run("retire", "k2", "--after", "3600")
    capsys.readouterr()
    await administrator.run("list")
    lines = [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "retired"
    assert lines[1].startswith("ends in 3")
    assert lines[2] == "valid"


async def test_the_last_valid_key_is_never_retired(
    provisioned: Provisioned, administrator: Administrator
) -> None:
    with pytest.raises(Conflict, match="the only one"):
        await administrator.run("retire", "k1")
    await administrator.run("install", "k2", key=secrets.token_bytes(32))
    done = await asyncio.gather(
        *(retire_context_key(provisioned.owner_dsn, k) for k in ("k1", "k2")),
        return_exceptions=True,
    )
    assert sorted(type(d).__name__ for d in done) == ["Conflict", "NoneType"]
    assert sum(k.valid_until is None for k in await context_keys(provisioned.owner_dsn)) == 1


@pytest.mark.parametrize("key", ["", "aa", "not hex", "00" * 33])
async def test_a_bad_key_is_refused_and_not_told(administrator: Administrator, key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await administrator.run("install", "k2", key=key)
    assert "openssl rand -hex 32" in str(refused.value.hint)
    assert not key or key not in str(refused.value)


async def test_a_bad_name_an_unknown_key_and_a_missing_dsn_are_refused(
    administrator: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput):
        await administrator.run("install", "K 2", key=secrets.token_bytes(32))
    with pytest.raises(InvalidInput):
        await administrator.run("retire", "k1", "--after", "-1")
    with pytest.raises(NotFound):
        await administrator.run("retire", "k9")
    monkeypatch.delenv("TENANTPLANE_OWNER_DSN")
    with pytest.raises(ConfigurationRefused, match="TENANTPLANE_OWNER_DSN"):
        await administrator.run("list")
