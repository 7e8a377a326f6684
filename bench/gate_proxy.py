"""The bare ASGI proxy that the gate is compared with: uvicorn, uvloop, httptools, aiohttp's client,
all as the gate has them, and nothing else: no tenant, no limit, no record.

    python -m bench.gate_proxy --upstream http://127.0.0.1:9000 --port 9001
"""

from __future__ import annotations

import argparse
import asyncio
import gc

import aiohttp
import uvicorn
import uvloop

from tenantplane.dataplane.api.asgi import Receive, Scope, Send, read_body
from tenantplane.dataplane.header_bound import BoundedHeaders

_PASSED_ON = ("content-type",)


class Proxy:
    """Passes a POST on, and the answer back as it comes."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=512, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        headers = {"content-type": "application/json"}
        url = self._upstream + scope["path"]
        async with self._session.post(url, data=body, headers=headers) as answer:
            kept = [
                (name.encode(), answer.headers[name].encode())
                for name in _PASSED_ON
                if name in answer.headers
            ]
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _serve(upstream: str, port: int) -> None:
    proxy = Proxy(upstream)
    await proxy.open()
    server = uvicorn.Server(
        uvicorn.Config(
            proxy,
            host="127.0.0.1",
            port=port,
            http=BoundedHeaders,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
        )
    )
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)
    try:
        await server.serve()
    finally:
        await proxy.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options.upstream, options.port))


if __name__ == "__main__":
    main()
