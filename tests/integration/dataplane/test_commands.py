"""`tenantplane-dataplane` as an administrator runs it."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys

import pytest

from tenantplane.core.db.embedded import EmbeddedPostgres


async def _run(command: str, environment: dict[str, str]) -> tuple[int, str]:
    """Exit code, and what it said on stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tenantplane.dataplane.main",
        command,
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_bootstrap_and_migrate_can_be_repeated(postgres: EmbeddedPostgres) -> None:
    passwords = {role: secrets.token_urlsafe(24) for role in ("owner", "app", "system", "backup")}

    def dsn(role: str) -> str:
        return postgres.dsn(f"tp_data_{role}", passwords[role], "data")

    environment = {
        "TENANTPLANE_ADMIN_DSN": postgres.admin_dsn(),
        "TENANTPLANE_OWNER_DSN": dsn("owner"),
        "TENANTPLANE_DATABASE__APP_DSN": dsn("app"),
        "TENANTPLANE_DATABASE__SYSTEM_DSN": dsn("system"),
        "TENANTPLANE_DATABASE__CONTEXT_KEY_ID": "k1",
        "TENANTPLANE_DATABASE__CONTEXT_KEY": secrets.token_hex(32),
    } | {f"TENANTPLANE_ROLE_PASSWORDS__{role.upper()}": word for role, word in passwords.items()}
    code, said = await _run("bootstrap", environment)
    assert code == 0, said
    assert "0002_peering" in said
    for command in ("bootstrap", "migrate"):
        code, said = await _run(command, environment)
        assert code == 0, said
        assert "none were missing" in said


@pytest.mark.parametrize("command", ["serve", "migrate", "bootstrap"])
async def test_a_missing_setting_is_named_and_no_value_shown(command: str) -> None:
    hidden = "correct-horse-battery"
    code, said = await _run(command, {"TENANTPLANE_DATABASE__CONTEXT_KEY": hidden})
    assert code == 1
    assert "TENANTPLANE_DATABASE__APP_DSN" in said
    assert hidden not in said
