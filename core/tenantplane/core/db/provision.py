"""From a bare server to a database that a plane can open: the whole of an installation's job.

Run by the Helm hook and by the embedded default, as administrator; a crash anywhere in it is
healed by running it again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from tenantplane.core.db.bootstrap import Bootstrapped, DatabaseKind, RolePasswords, bootstrap
from tenantplane.core.db.context_keys import install_context_key
from tenantplane.core.db.migrate import migrate
from tenantplane.core.db.settings import DatabaseSettings


@dataclass(frozen=True)
class ContextKey:
    """The key that signs tenant contexts: 32 random bytes under a name."""

    key_id: str
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Provisioned:
    """A database that is ready. `owner_dsn` is for migrations and rotation alone."""

    bootstrapped: Bootstrapped
    applied: tuple[str, ...]
    owner_dsn: str = field(repr=False)
    backup_dsn: str = field(repr=False)
    settings: DatabaseSettings


async def provision(
    admin_dsn: str,
    database: DatabaseKind,
    plane_migrations: Path,
    passwords: RolePasswords,
    context_key: ContextKey,
    *,
    dbname: str | None = None,
    role_prefix: str | None = None,
) -> Provisioned:
    """Bootstrap, migrations and context key, in this order; each is idempotent.

    Raises ConfigurationRefused, Conflict (the key's name belongs to another key),
    DependencyUnavailable.
    """
    made = await bootstrap(admin_dsn, database, passwords, dbname=dbname, role_prefix=role_prefix)

    def dsn(kind: str) -> str:
        return make_conninfo(
            admin_dsn,
            dbname=made.dbname,
            user=made.role(kind),
            password=getattr(passwords, kind),
        )

    applied = await asyncio.to_thread(migrate, dsn("owner"), plane_migrations)
    await install_context_key(dsn("owner"), context_key.key_id, context_key.key)
    settings = DatabaseSettings(
        app_dsn=SecretStr(dsn("app")),
        system_dsn=SecretStr(dsn("system")),
        context_key_id=context_key.key_id,
        context_key=SecretStr(context_key.key.hex()),
    )
    return Provisioned(made, tuple(applied), dsn("owner"), dsn("backup"), settings)
