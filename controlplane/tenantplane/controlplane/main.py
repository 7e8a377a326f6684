"""`tenantplane-controlplane serve | migrate | bootstrap`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tenantplane.controlplane.settings import ControlPlaneSettings
from tenantplane.core.db.context_key_commands import add_context_key_commands
from tenantplane.core.errors import TenantplaneError
from tenantplane.core.telemetry.logging import configure

MIGRATIONS = Path(__file__).parent / "db" / "migrations"

_log = logging.getLogger(__name__)

_EXAMPLES = """examples:
  tenantplane-controlplane bootstrap            roles, database, schema, key (superuser's DSN)
  tenantplane-controlplane migrate              schema and key alone (owner's DSN)
  tenantplane-controlplane serve --port 8080    run; settings from TENANTPLANE_* variables
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, or 1 with one line that says what to do."""
    chosen = _parser().parse_args(arguments)
    configure("controlplane")
    try:
        match chosen.command:
            case "serve":
                _serve(chosen.host, chosen.port)
            case "migrate":
                _migrate()
            case "bootstrap":
                _bootstrap()
            case "context-key":
                asyncio.run(chosen.run(chosen))
    except TenantplaneError as refused:
        _log.error("%s", refused)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tenantplane-controlplane",
        description="The control plane: registry, identity, planes, usage and audit commitments.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="run the API",
        epilog="example: tenantplane-controlplane serve --host 0.0.0.0 --port 8080",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, default=8080, help="port to listen on (8080)")
    commands.add_parser(
        "migrate",
        help="bring the schema up to date and install the context key",
        epilog="needs TENANTPLANE_OWNER_DSN and TENANTPLANE_DATABASE__…",
    )
    commands.add_parser(
        "bootstrap",
        help="make roles and database, then migrate; run again as often as you like",
        epilog="needs TENANTPLANE_ADMIN_DSN, TENANTPLANE_ROLE_PASSWORDS__… and …DATABASE__…",
    )
    add_context_key_commands(commands)
    return parser


# Each command imports what it needs and no more: the web framework and the migration tool take a
# second each to load, and a pod or a laptop waits for it at every start.


def _serve(host: str, port: int) -> None:
    import uvloop  # noqa: PLC0415

    from tenantplane.controlplane import server  # noqa: PLC0415

    settings = ControlPlaneSettings.from_environment()
    configure("controlplane", settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(settings, host, port))


def _migrate() -> None:
    from tenantplane.core.db.administration import run_migrations  # noqa: PLC0415

    asyncio.run(run_migrations(MIGRATIONS))


def _bootstrap() -> None:
    from tenantplane.core.db.administration import run_bootstrap  # noqa: PLC0415

    asyncio.run(run_bootstrap("control", MIGRATIONS))


if __name__ == "__main__":
    sys.exit(main())
