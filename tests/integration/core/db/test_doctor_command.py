"""`tenantplane doctor db` as an administrator runs it, against a database as it is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tenantplane.core.db.doctor import CHECKS
from tenantplane.core.db.provision import Provisioned
from tests.fixtures.postgres import ProvisionDatabase

TOY_PLANE = Path(__file__).parent / "toy_plane"


@pytest.fixture
async def provisioned(provision_database: ProvisionDatabase) -> Provisioned:
    return await provision_database("data", TOY_PLANE)


async def doctor(
    provisioned: Provisioned, *options: str, **changed: str
) -> subprocess.CompletedProcess[str]:
    settings = provisioned.settings
    prefix = "TENANTPLANE_DATABASE__"
    environment = {
        prefix + "APP_DSN": settings.app_dsn.get_secret_value(),
        prefix + "SYSTEM_DSN": settings.system_dsn.get_secret_value(),
        prefix + "CONTEXT_KEY_ID": settings.context_key_id,
        prefix + "CONTEXT_KEY": settings.context_key.get_secret_value(),
    } | {prefix + name: value for name, value in changed.items()}
    command = [sys.executable, "-m", "tenantplane.cli.main", "doctor", "db", *options]
    return await asyncio.to_thread(
        subprocess.run,
        command,
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


async def as_owner(provisioned: Provisioned, change: str) -> None:
    async with await psycopg.AsyncConnection.connect(provisioned.owner_dsn) as owner:
        await owner.execute(change.encode())


async def test_a_sound_database_is_ok_in_every_check(provisioned: Provisioned) -> None:
    said = await doctor(provisioned)
    assert said.returncode == 0, said.stderr
    for check in CHECKS:
        assert any(
            line.startswith(f"{check} ") and " OK " in line for line in said.stdout.splitlines()
        )


@pytest.mark.fault("F18")
async def test_what_is_refused_and_what_is_worth_knowing_are_told_apart(
    provisioned: Provisioned,
) -> None:
    await as_owner(provisioned, "ALTER TABLE note NO FORCE ROW LEVEL SECURITY")
    await as_owner(provisioned, "CREATE INDEX by_body ON note (body)")
    said = await doctor(provisioned)
    assert said.returncode == 1
    assert "REFUSE public.note has org_id but no forced row-level security" in said.stdout
    assert "WARN   public.note index by_body does not begin with org_id" in said.stdout


@pytest.mark.fault("F18")
async def test_the_document_has_every_check_with_its_findings(provisioned: Provisioned) -> None:
    await as_owner(provisioned, "CREATE POLICY wide ON note FOR SELECT TO PUBLIC USING (true)")
    said = await doctor(provisioned, "--json")
    assert said.returncode == 1
    document = json.loads(said.stdout)
    assert document["verdict"] == "REFUSE"
    assert {name for name, c in document["checks"].items() if c["verdict"] == "OK"} == set(
        CHECKS
    ) - {"policies"}
    (found,) = document["checks"]["policies"]["findings"]
    assert (found["severity"], found["subject"]) == ("refuse", "public.note")
    await as_owner(provisioned, "DROP POLICY wide ON note; CREATE INDEX ON note (body)")
    said = await doctor(provisioned, "--json")
    assert said.returncode == 0
    assert json.loads(said.stdout)["verdict"] == "WARN"


@pytest.mark.fault("F19")
async def test_with_a_wrong_role_the_rest_is_skipped(provisioned: Provisioned) -> None:
    said = await doctor(provisioned, "--json", APP_DSN=provisioned.owner_dsn)
    assert said.returncode == 1
    verdicts = {name: c["verdict"] for name, c in json.loads(said.stdout)["checks"].items()}
    assert verdicts == dict.fromkeys(CHECKS, "SKIPPED") | {"roles": "REFUSE"}


async def test_what_cannot_be_asked_is_said_without_secrets(provisioned: Provisioned) -> None:
    said = await doctor(
        provisioned, APP_DSN="host=127.0.0.1 port=1 password=word", POOL_WAIT_SECONDS="0.5"
    )
    assert said.returncode == 1
    assert "not available" in said.stderr.splitlines()[-1]
    assert "Traceback" not in said.stderr
    assert "word" not in said.stderr
    settings = provisioned.settings
    unset = await doctor(provisioned, CONTEXT_KEY="short")
    assert unset.returncode == 1
    assert "TENANTPLANE_DATABASE__CONTEXT_KEY" in unset.stderr
    assert settings.context_key.get_secret_value() not in unset.stderr


async def test_without_a_local_stack_it_says_how_to_start_one(
    tmp_path: Path,
) -> None:
    said = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tenantplane.cli.main", "doctor", "db", "--local", "data"],
        env={"PATH": os.environ["PATH"], "TENANTPLANE_STATE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1
    assert "Start it with 'tenantplane dev'" in said.stderr
