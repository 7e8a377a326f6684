"""The commands that set up the plane's database: run by administrators, never by the service."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from tenantplane.core.db.bootstrap import RolePasswords
from tenantplane.core.db.context_keys import install_context_key
from tenantplane.core.db.migrate import migrate
from tenantplane.core.db.provision import ContextKey, provision
from tenantplane.dataplane.settings import BootstrapSettings, MigrationSettings

MIGRATIONS = Path(__file__).parent / "migrations"

_log = logging.getLogger(__name__)


async def run_migrations() -> None:
    """Applies what is missing, as owner, and installs the context key; idempotent.

    Raises ConfigurationRefused, Conflict, DependencyUnavailable.
    """
    settings = MigrationSettings.from_environment()
    owner_dsn = settings.owner_dsn.get_secret_value()
    applied = await asyncio.to_thread(migrate, owner_dsn, MIGRATIONS)
    key = settings.database
    await install_context_key(owner_dsn, key.context_key_id, key.context_key_bytes())
    _log.info("migrations applied: %s", ", ".join(applied) or "none were missing")


async def run_bootstrap() -> None:
    """Makes database and roles as administrator, then does what `run_migrations` does. The row of
    the ledger's epoch comes with the migrations.

    Raises like `run_migrations`.
    """
    settings = BootstrapSettings.from_environment()
    passwords = settings.role_passwords
    made = await provision(
        settings.admin_dsn.get_secret_value(),
        "data",
        MIGRATIONS,
        RolePasswords(
            owner=passwords.owner.get_secret_value(),
            app=passwords.app.get_secret_value(),
            system=passwords.system.get_secret_value(),
            backup=passwords.backup.get_secret_value(),
        ),
        ContextKey(settings.database.context_key_id, settings.database.context_key_bytes()),
    )
    _log.info("migrations applied: %s", ", ".join(made.applied) or "none were missing")
    for subject in made.bootstrapped.degraded:
        _log.warning("this server does not allow to revoke: %s", subject)
