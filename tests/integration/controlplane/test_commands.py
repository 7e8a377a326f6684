"""The command line: bootstrap and migrate as the Helm hook and the embedded default run them."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys

from tenantplane.core.db.embedded import EmbeddedPostgres

PASSWORDS = {
    f"TENANTPLANE_ROLE_PASSWORDS__{role}": secrets.token_urlsafe(16)
    for role in ("OWNER", "APP", "SYSTEM", "BACKUP")
}


async def _run(command: str, environment: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tenantplane.controlplane.main",
        *command.split(),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_bootstrap_and_migrate_are_idempotent(postgres: EmbeddedPostgres) -> None:
    def dsn(role: str) -> str:
        password = PASSWORDS[f"TENANTPLANE_ROLE_PASSWORDS__{role.upper()}"]
        return postgres.dsn(f"tp_control_{role}", password, "control")

    database = {
        "TENANTPLANE_DATABASE__APP_DSN": dsn("app"),
        "TENANTPLANE_DATABASE__SYSTEM_DSN": dsn("system"),
        "TENANTPLANE_DATABASE__CONTEXT_KEY_ID": "k1",
        "TENANTPLANE_DATABASE__CONTEXT_KEY": secrets.token_hex(32),
    }
    admin = {"TENANTPLANE_ADMIN_DSN": postgres.admin_dsn(), **PASSWORDS, **database}
    code, said = await _run("bootstrap", admin)
    assert code == 0, said
    assert "0001_registry" in said
    for command, environment in (
        ("bootstrap", admin),
        ("migrate", {"TENANTPLANE_OWNER_DSN": dsn("owner"), **database}),
    ):
        code, said = await _run(command, environment)
        assert code == 0, said
        assert "none were missing" in said
    assert not any(password in said for password in PASSWORDS.values())


async def test_missing_settings_end_it_with_one_line() -> None:
    for command in ("serve", "migrate", "bootstrap"):
        code, said = await _run(command, {})
        assert code == 1
        assert "TENANTPLANE_DATABASE" in said
        assert "Traceback" not in said


async def test_help_has_examples() -> None:
    code, said = await _run("--help", {})
    assert code == 0
    assert "tenantplane-controlplane serve --port 8080" in said
