"""What an administrator's command does to a plane's database: `bootstrap` and `migrate`.

Both planes' commands are this; they differ in the kind of database and the folder of migrations.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from psycopg.conninfo import make_conninfo
from pydantic import BaseModel, ConfigDict, SecretStr

from tenantplane.core.db.bootstrap import DatabaseKind, RolePasswords, bootstrap
from tenantplane.core.db.context_keys import install_context_key
from tenantplane.core.db.migrate import migrate
from tenantplane.core.settings import ServiceSettings


class RolePasswordSettings(BaseModel):
    """TENANTPLANE_ROLE_PASSWORDS__OWNER and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: SecretStr
    app: SecretStr
    system: SecretStr
    backup: SecretStr


class ContextKeySettings(BaseModel):
    """The two fields of the service's own TENANTPLANE_DATABASE__… that the database must know."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    context_key_id: str
    context_key: SecretStr


class AdministrationSettings(ServiceSettings):
    """`admin_dsn` is a superuser's on any database of the server; used by no running service."""

    admin_dsn: SecretStr
    role_passwords: RolePasswordSettings
    database: ContextKeySettings


async def prepare(
    settings: AdministrationSettings, kind: DatabaseKind, migrations: Path
) -> list[str]:
    """Database, roles, revokes, migrations and context key; idempotent, safe to run twice at once.

    Returns lines that say what was done and what this server did not let it revoke.
    """
    admin_dsn = settings.admin_dsn.get_secret_value()
    passwords = settings.role_passwords
    made = await bootstrap(
        admin_dsn,
        kind,
        RolePasswords(
            owner=passwords.owner.get_secret_value(),
            app=passwords.app.get_secret_value(),
            system=passwords.system.get_secret_value(),
            backup=passwords.backup.get_secret_value(),
        ),
    )
    owner_dsn = make_conninfo(
        admin_dsn,
        dbname=made.dbname,
        user=made.role("owner"),
        password=passwords.owner.get_secret_value(),
    )
    applied = await asyncio.to_thread(migrate, owner_dsn, migrations)
    await install_context_key(
        owner_dsn,
        settings.database.context_key_id,
        bytes.fromhex(settings.database.context_key.get_secret_value()),
    )
    done = [f"applied {name}" for name in applied] or ["schema is up to date"]
    return [f"database {made.dbname}", *done, *(f"degraded: {item}" for item in made.degraded)]
