"""The commands that set up a plane's database, run by administrators and never by a service.

Both planes' `bootstrap` and `migrate` are these; they differ in the kind of database and in the
folder of migrations. The Helm hook's Job and the embedded default run `bootstrap`.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr

from tenantplane.core.db.bootstrap import DatabaseKind, RolePasswords
from tenantplane.core.db.context_keys import install_context_key
from tenantplane.core.db.migrate import migrate
from tenantplane.core.db.provision import ContextKey, provision
from tenantplane.core.db.settings import DatabaseSettings
from tenantplane.core.settings import ServiceSettings

_log = logging.getLogger(__name__)


class MigrationSettings(ServiceSettings):
    """What `migrate` reads: the owner's DSN, which the running service never has."""

    owner_dsn: SecretStr  # libpq DSN of the role owner, which migrations run as
    database: DatabaseSettings  # for the context key that is installed


class RolePasswordSettings(BaseModel):
    """Passwords that the bootstrap gives to the roles: TENANTPLANE_ROLE_PASSWORDS__OWNER, …"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: SecretStr  # migrations
    app: SecretStr  # tenant-scoped work of the service
    system: SecretStr  # cross-tenant jobs of the service
    backup: SecretStr  # dumps

    def revealed(self) -> RolePasswords:
        return RolePasswords(
            owner=self.owner.get_secret_value(),
            app=self.app.get_secret_value(),
            system=self.system.get_secret_value(),
            backup=self.backup.get_secret_value(),
        )


class BootstrapSettings(ServiceSettings):
    """What `bootstrap` reads: an administrator's DSN, and what it is to set up."""

    admin_dsn: SecretStr  # libpq DSN of an administrator of the server: makes database and roles
    role_passwords: RolePasswordSettings
    database: DatabaseSettings


async def run_migrations(migrations: Path) -> None:
    """Applies what is missing, as owner, and installs the context key; idempotent.

    Raises ConfigurationRefused, Conflict (the key's name is another key's), DependencyUnavailable.
    """
    settings = MigrationSettings.from_environment()
    owner_dsn, key = settings.owner_dsn.get_secret_value(), settings.database
    applied = await asyncio.to_thread(migrate, owner_dsn, migrations)
    await install_context_key(owner_dsn, key.context_key_id, key.context_key_bytes())
    _say(applied)


async def run_bootstrap(kind: DatabaseKind, migrations: Path) -> None:
    """Makes database and roles as administrator, then does what `run_migrations` does.

    Raises like `run_migrations`.
    """
    settings = BootstrapSettings.from_environment()
    made = await provision(
        settings.admin_dsn.get_secret_value(),
        kind,
        migrations,
        settings.role_passwords.revealed(),
        ContextKey(settings.database.context_key_id, settings.database.context_key_bytes()),
    )
    for subject in made.bootstrapped.degraded:
        _log.warning("this server does not allow to revoke: %s", subject)
    _say(list(made.applied))


def _say(applied: list[str]) -> None:
    _log.info("migrations applied: %s", ", ".join(applied) or "none were missing")
