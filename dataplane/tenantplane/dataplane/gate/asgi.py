"""The gate: outermost ASGI application. Nothing behind it is served without a verified tenant.

The way of one request: id → credential → tenant and snapshot → its org's turn → the application of
its route, and any error on the way becomes the one answer that api/problems.py gives it.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from tenantplane.core.errors import InvalidInput, NotFound, TenantplaneError
from tenantplane.core.ids import new_id_text
from tenantplane.core.telemetry.logging import Subject, json_text
from tenantplane.dataplane.api.problems import rendered, unexpected
from tenantplane.dataplane.gate.access_log import AccessLog, Request
from tenantplane.dataplane.gate.fair_turns import FairTurns
from tenantplane.dataplane.gate.idempotency import Idempotency, idempotency_key
from tenantplane.dataplane.gate.identity import Identity
from tenantplane.dataplane.gate.readiness import ReadinessProbe
from tenantplane.dataplane.gate.request import place_tenant

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)
_security = logging.getLogger("tenantplane.security")

_OPEN = frozenset({"/healthz", "/readyz"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_UNPROVEN = frozenset({401, 403, 421})


class Gate:
    """`routes` are tried in order by prefix of the path. `/healthz` and `/readyz` are open."""

    def __init__(
        self,
        identity: Identity,
        routes: Sequence[tuple[str, Application]],
        readiness: ReadinessProbe,
        *,
        body_limit_bytes: int,
        turns: FairTurns | None = None,
        idempotency: Idempotency | None = None,
    ) -> None:
        self._identity = identity
        self._routes = tuple(routes)
        self._readiness = readiness
        self._body_limit_bytes = body_limit_bytes
        self._turns = turns or FairTurns()
        self._idempotency = idempotency
        self._access = AccessLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # No websockets here: closed before they are accepted (HTTP 403). Lifespan is main's.
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(send, _given_id(scope))
        if scope["path"] in _OPEN:
            await self._health(scope["path"], answer)
            return
        began = time.perf_counter()
        try:
            await self._serve(scope, receive, answer)
        except TenantplaneError as error:
            await self._refuse(scope, answer, error)
        except Exception:  # noqa: BLE001 (the border: a fault must not reach the caller)
            _log.exception("request %s failed", answer.request_id)
            await answer.error(unexpected(), scope["path"])
        finally:
            answer.log(self._access, scope, time.perf_counter() - began)

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        tenant = await self._identity.tenant(scope["headers"])
        answer.subject = tenant.subject
        if await self._turns.turn(tenant.context.org_id):
            # It waited: its key, its org or a limit may have changed meanwhile.
            tenant = await self._identity.tenant(scope["headers"])
        place_tenant(scope, tenant)
        with Subject(tenant.subject):
            receive = _bounded(receive, scope["headers"], self._body_limit_bytes)
            application = self._application(scope["path"])
            key = idempotency_key(scope)
            if key is None:
                await application(scope, receive, answer)
            elif self._idempotency is None:
                # Whoever sends one relies on it: to serve the request as if it were not there
                # would run it twice one day.
                raise InvalidInput(
                    "Idempotency-Key is not served here.",
                    hint="Send the request without it.",
                    code="idempotency_not_served",
                )
            else:
                await self._idempotency.serve(application, key, scope, receive, answer)

    async def _health(self, path: str, answer: _Answer) -> None:
        if path == "/healthz":
            await answer.json(200, {"status": "ok"})
            return
        readiness = await self._readiness.check()
        body = {"ready": readiness.ready, "checks": dict(readiness.checks)}
        await answer.json(200 if readiness.ready else 503, body)

    def _application(self, path: str) -> Application:
        for prefix, application in self._routes:
            if path.startswith(prefix):
                return application
        raise NotFound("There is no such route.", code="no_such_route")

    async def _refuse(self, scope: Scope, answer: _Answer, error: TenantplaneError) -> None:
        if error.status in _UNPROVEN:
            _security.warning(
                "request %s refused with %d %s: %s",
                answer.request_id,
                error.status,
                error.error_code,
                error.detail,
            )
        await answer.error(error, scope["path"])


class _Answer:
    """`send` of one response: adds the request's id, and knows whether the response has begun."""

    __slots__ = ("_given_id", "_send", "_status", "request_id", "subject")

    def __init__(self, send: Send, given_id: str | None) -> None:
        self._send = send
        self._status: int | None = None
        self._given_id = given_id
        self.request_id = given_id or new_id_text()
        self.subject: Mapping[str, str] = {}  # whom the log line is about

    def __call__(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            own = (b"x-request-id", self.request_id.encode())
            message = {**message, "headers": [*message.get("headers", ()), own]}
        return self._send(message)

    async def json(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await self._whole(status, headers, content)

    async def error(self, error: TenantplaneError, path: str) -> None:
        if self._status is not None:
            # Too late for a status: returning leaves the response incomplete, and the server
            # closes the connection, so that the caller sees it was cut.
            _log.warning("response %s was cut: %s", self.request_id, error)
            return
        await self._whole(*rendered(error, path))

    def log(self, access: AccessLog, scope: Scope, seconds: float) -> None:
        """One line for the request."""
        # An id of ours is neither a secret nor has what JSON escapes.
        id_json = json_text(self._given_id) if self._given_id else f'"{self.request_id}"'
        request = Request(id_json, scope["method"], scope["path"], self._status, seconds)
        access.write(self.subject, request)

    async def _whole(self, status: int, headers: list[tuple[bytes, bytes]], content: bytes) -> None:
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": content})


def _given_id(scope: Scope) -> str | None:
    """The caller's own id where it is a harmless word: it goes into logs and back to the caller."""
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return bytes(given[0]).decode()
    return None


def _bounded(receive: Receive, headers: Sequence[tuple[bytes, bytes]], limit: int) -> Receive:
    """`receive` that refuses a body over the limit: by its length where that is said beforehand,
    else when it has grown past it. Raises InvalidInput."""
    length_alone = False
    for name, value in headers:
        if name == b"content-length":
            if not value.isdigit() or int(value) > limit:
                raise _too_large(limit)
            length_alone = True
        elif name == b"transfer-encoding":
            return _counted(receive, limit)
    # HTTP's parser reads no further than the length (RFC 9112 section 6.3).
    return receive if length_alone else _counted(receive, limit)


def _counted(receive: Receive, limit: int) -> Receive:
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return bounded


def _too_large(limit: int) -> InvalidInput:
    return InvalidInput(
        f"The request's body is larger than {limit} bytes.",
        hint="Send less at once.",
        code="body_too_large",
    )
