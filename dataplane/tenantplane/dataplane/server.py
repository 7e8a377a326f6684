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

# What is new when the collector looks for cycles. Some requests in flight pass Python's 700: it ran
# for every fifth request (186 times in 950). This many are looked through in 4 ms.
_YOUNG_OBJECTS = 20_000
# What requests that the drain cut still settle takes as long as a commit, at most.
_SETTLE_SECONDS = 10.0


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
            # Nothing here asks for the client's address or scheme.
            proxy_headers=False,
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
    gc.set_threshold(_YOUNG_OBJECTS)
    try:
        await server.serve()
    finally:
        # uvicorn cancels what the drain cuts, and does not wait for it to end.
        if cut := set(server.server_state.tasks):
            await asyncio.wait(cut, timeout=_SETTLE_SECONDS)
        await plane.close()
