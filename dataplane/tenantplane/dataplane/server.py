"""Serves the data plane's gate, and ends it in order."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from tenantplane.dataplane.app import DataPlane
from tenantplane.dataplane.header_bound import BoundedHeaders
from tenantplane.dataplane.settings import DataPlaneSettings


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
            http=BoundedHeaders,
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
    # What start-up made stays: a full collection over it would stall every request for a quarter
    # of a second.
    gc.collect()
    gc.freeze()
    try:
        await server.serve()
    finally:
        await plane.close()
