"""Runs the application under uvicorn, and stops it in good order."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from tenantplane.controlplane import services
from tenantplane.controlplane.app import create_app
from tenantplane.controlplane.planes.feed import ChangeFeed
from tenantplane.controlplane.settings import ControlPlaneSettings


async def serve(settings: ControlPlaneSettings, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT: streams end, running requests are drained, then the
    database is closed.

    Raises ConfigurationRefused and DependencyUnavailable where it cannot start.
    """
    feed = ChangeFeed()
    async with services.running(settings, feed) as running:
        config = uvicorn.Config(
            create_app(running),
            host=host,
            port=port,
            lifespan="off",
            # Bounds the header of a request (64 KiB), which httptools does not.
            http="h11",
            # The application writes its own access log, without queries.
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=settings.graceful_shutdown_seconds,
        )
        server = _Server(config, feed)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.handle_exit, number, None)
        await server.serve()


class _Server(uvicorn.Server):
    """Ends the planes' streams first: a stream would hold a graceful stop until its time-out."""

    def __init__(self, config: uvicorn.Config, feed: ChangeFeed) -> None:
        super().__init__(config)
        self._feed = feed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._feed.end()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # uvicorn raises a signal once more when it has drained, and that would end the process
        # before its services are closed. So the signals are `serve`'s.
        yield
