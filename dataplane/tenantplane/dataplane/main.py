"""Entry point of the data plane: serve | migrate | bootstrap | context-key | sql-source."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import uvloop

from tenantplane.core.db.context_key_commands import add_context_key_commands
from tenantplane.core.errors import TenantplaneError
from tenantplane.core.telemetry import logging as telemetry
from tenantplane.dataplane.ledger.commands import add_ledger
from tenantplane.dataplane.settings import DataPlaneSettings
from tenantplane.dataplane.sources.sql.commands import add_sql_source

SERVICE = "dataplane"
MIGRATIONS = Path(__file__).parent / "db" / "migrations"

_log = logging.getLogger(__name__)

_EXAMPLES = """\
settings come from the environment (TENANTPLANE_…); examples:
  TENANTPLANE_ADMIN_DSN=… tenantplane-dataplane bootstrap     once, as administrator of Postgres
  TENANTPLANE_OWNER_DSN=… tenantplane-dataplane migrate       at each upgrade, before serve
  tenantplane-dataplane serve --host 0.0.0.0 --port 8080
  TENANTPLANE_OWNER_DSN=… tenantplane-dataplane sql-source create --org acme --name crm --spec crm.yaml
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 with one line on stderr that says what to do."""
    chosen = _parser().parse_args(arguments)
    telemetry.configure(SERVICE)
    run: Callable[[argparse.Namespace], Coroutine[Any, Any, None]] = chosen.run
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(chosen))
    except TenantplaneError as refused:
        _log.error("%s", refused)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


# Each command imports what it needs: LangGraph takes seconds, Alembic half a second.


async def _serve(chosen: argparse.Namespace) -> None:
    from tenantplane.dataplane.server import serve  # noqa: PLC0415

    settings = DataPlaneSettings.from_environment()
    telemetry.configure(SERVICE, settings.log_level)
    await serve(settings, chosen.host, chosen.port)


async def _migrate(_: argparse.Namespace) -> None:
    from tenantplane.core.db.administration import run_migrations  # noqa: PLC0415

    await run_migrations(MIGRATIONS)


async def _bootstrap(_: argparse.Namespace) -> None:
    from tenantplane.core.db.administration import run_bootstrap  # noqa: PLC0415

    await run_bootstrap("data", MIGRATIONS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tenantplane-dataplane",
        description="The data plane: serves its orgs' requests.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serving = commands.add_parser("serve", help="serve until SIGTERM")
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    serving.add_argument("--port", type=int, default=8080, help="port (%(default)s)")
    serving.set_defaults(run=_serve)
    migrating = commands.add_parser("migrate", help="apply missing migrations, as owner")
    migrating.set_defaults(run=_migrate)
    booting = commands.add_parser("bootstrap", help="make database and roles, then migrate")
    booting.set_defaults(run=_bootstrap)
    add_context_key_commands(commands)
    add_sql_source(commands)
    add_ledger(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
