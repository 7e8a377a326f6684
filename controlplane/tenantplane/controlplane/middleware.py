"""Plain ASGI around the application: an upper bound on bodies, the access log, the last resort,
and the refusal of all while the database is not safe."""

from __future__ import annotations

import logging
import time
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tenantplane.controlplane.problems import internal_error, problem_response
from tenantplane.controlplane.services import Services
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.core.ids import new_id

_access = logging.getLogger("tenantplane.access")
_log = logging.getLogger(__name__)

# What says how the process is goes on saying it.
_HEALTH: Final = frozenset({"/healthz", "/readyz"})


class AccessLog:
    """One line per request: never a query, a header or a body, which may carry secrets. What no
    handler knew becomes a 500 without details here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        request_id = str(new_id())
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            _log.exception("unexpected error", extra={"request_id": request_id})
            if status:
                raise  # the answer has begun: the server cuts the connection
            await internal_error(scope["path"])(scope, receive, noted)
        finally:
            _access.info(
                "%s %s %d",
                scope["method"],
                scope["path"],
                status,
                extra={
                    "request_id": request_id,
                    "duration_ms": round(1000 * (time.monotonic() - started), 1),
                },
            )


class BodyLimit:
    """Refuses a body beyond `max_bytes` as it is read, announced or not."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        seen = int(announced) if announced.isdigit() else 0
        too_large = HTTPException(413, f"The body is larger than {self._max_bytes} bytes.")

        async def bounded() -> Message:
            nonlocal seen
            if seen > self._max_bytes:
                raise too_large
            message = await receive()
            if b"content-length" not in dict(scope["headers"]):
                seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise too_large
            return message

        await self._app(scope, bounded, send)


class IsolationGuard:
    """Serves nothing while a refusal of the database's live check stands."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _HEALTH:
            try:
                self._services.isolation.require()
            except DependencyUnavailable as refused:
                await problem_response(refused, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)
