"""Sets up the control plane's database: what the Helm hook's Job and the embedded default run."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from tenantplane.controlplane.settings import BootstrapSettings, MigrationSettings
from tenantplane.core.db.bootstrap import RolePasswords
from tenantplane.core.db.context_keys import install_context_key
from tenantplane.core.db.migrate import migrate
from tenantplane.core.db.provision import ContextKey, provision

MIGRATIONS: Final = Path(__file__).parent / "db" / "migrations"

_log = logging.getLogger(__name__)


async def migrate_schema(settings: MigrationSettings) -> None:
    """Brings the schema up to date and installs the context key; idempotent.

    Raises ConfigurationRefused, Conflict (the key's name is another key's), DependencyUnavailable.
    """
    dsn, key = settings.owner_dsn.get_secret_value(), settings.database
    applied = await asyncio.to_thread(migrate, dsn, MIGRATIONS)
    await install_context_key(dsn, key.context_key_id, key.context_key_bytes())
    _say(applied)


async def bootstrap(settings: BootstrapSettings) -> None:
    """Makes roles and database, then what `migrate_schema` does; idempotent.

    Raises ConfigurationRefused, Conflict, DependencyUnavailable.
    """
    passwords, key = settings.role_passwords, settings.database
    done = await provision(
        settings.admin_dsn.get_secret_value(),
        "control",
        MIGRATIONS,
        RolePasswords(
            owner=passwords.owner.get_secret_value(),
            app=passwords.app.get_secret_value(),
            system=passwords.system.get_secret_value(),
            backup=passwords.backup.get_secret_value(),
        ),
        ContextKey(key.context_key_id, key.context_key_bytes()),
    )
    for degraded in done.bootstrapped.degraded:
        _log.warning("not revoked on this server: %s", degraded)
    _say(list(done.applied))


def _say(applied: list[str]) -> None:
    _log.info("migrations applied: %s", ", ".join(applied) or "none were missing")
