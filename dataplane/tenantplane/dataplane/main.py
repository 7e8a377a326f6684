"""Entry point of the data plane: serve | migrate | bootstrap."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
import uvloop

from tenantplane.core.errors import TenantplaneError
from tenantplane.core.telemetry import logging as telemetry
from tenantplane.dataplane.app import DataPlane
from tenantplane.dataplane.settings import DataPlaneSettings

SERVICE = "dataplane"

_log = logging.getLogger(__name__)

_EXAMPLES = """\
settings come from the environment (TENANTPLANE_…); examples:
  TENANTPLANE_ADMIN_DSN=… tenantplane-dataplane bootstrap     once, as administrator of Postgres
  TENANTPLANE_OWNER_DSN=… tenantplane-dataplane migrate       at each upgrade, before serve
  tenantplane-dataplane serve --host 0.0.0.0 --port 8080
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


class _Server(uvicorn.Server):
    """uvicorn raises a signal once more when it has drained: with its default action, that would
    end the process before the background tasks have ended. So the signals are `serve`'s."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(settings: DataPlaneSettings, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT: then no new connections, running requests are drained for
    `drain_seconds`, and only then the background tasks end.

    Raises ConfigurationRefused and DependencyUnavailable where it cannot start.
    """
    plane = DataPlane(settings)
    server = _Server(
        uvicorn.Config(
            plane.gate,
            host=host,
            port=port,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            # Longer than the 60 s of common load balancers: who closes first, loses no request.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    await plane.open()
    try:
        await server.serve()
    finally:
        await plane.close()


async def _serve(chosen: argparse.Namespace) -> None:
    settings = DataPlaneSettings.from_environment()
    telemetry.configure(SERVICE, settings.log_level)
    await serve(settings, chosen.host, chosen.port)


async def _migrate(_: argparse.Namespace) -> None:
    # Alembic and SQLAlchemy take as long to import as half of the service: not for `serve`.
    from tenantplane.dataplane.db.provisioning import run_migrations  # noqa: PLC0415

    await run_migrations()


async def _bootstrap(_: argparse.Namespace) -> None:
    from tenantplane.dataplane.db.provisioning import run_bootstrap  # noqa: PLC0415

    await run_bootstrap()


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
    return parser


if __name__ == "__main__":
    sys.exit(main())
