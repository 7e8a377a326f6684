"""The one place where errors become answers: OpenAI's shape under /v1/, RFC 9457 elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tenantplane.core.errors import FieldError, InvalidInput, NotFound, TenantplaneError
from tenantplane.dataplane.gate.rate_fields import OPENAI_PREFIX as OPENAI_FIELDS

OPENAI_PREFIX = "/v1/"
_PROBLEM_TYPE = "application/problem+json"

Headers = list[tuple[bytes, bytes]]


def unexpected() -> TenantplaneError:
    """What a caller is told of a fault of ours: nothing but that it is logged."""
    return TenantplaneError(
        "The request failed through a fault of this service.",
        hint="Give the x-request-id of this answer to its operator.",
    )


def rendered(error: TenantplaneError, path: str) -> tuple[int, Headers, bytes]:
    """Status, header fields and body of an error, in the shape that callers of `path` parse."""
    if path.startswith(OPENAI_PREFIX):
        kind, body, told = "application/json", error.openai_error(), error.headers()
    else:
        kind, body = _PROBLEM_TYPE, error.problem(instance=path)
        told = {n: v for n, v in error.headers().items() if not n.startswith(OPENAI_FIELDS)}
    content = json.dumps(body, separators=(",", ":")).encode()
    fields: Mapping[str, str] = {
        "content-type": kind,
        "content-length": str(len(content)),
        "cache-control": "no-store",
    } | told
    headers = [
        (name.encode(), value.encode("latin-1", "replace")) for name, value in fields.items()
    ]
    return error.status, headers, content


def install(app: FastAPI) -> None:
    """Answers the errors of `app` here, before its framework makes bodies of its own."""

    async def refused(request: Request, error: Any) -> Response:
        return _response(error, request)

    async def invalid(request: Request, error: Any) -> Response:
        return _response(_invalid(error), request)

    async def framework(request: Request, error: Any) -> Response:
        return _response(_of_framework(error), request)

    async def broken(request: Request, _: Any) -> Response:
        # The framework raises it once more when this is sent, so the gate logs it.
        return _response(unexpected(), request)

    app.add_exception_handler(Exception, broken)
    app.add_exception_handler(TenantplaneError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, framework)


def _response(error: TenantplaneError, request: Request) -> Response:
    status, headers, content = rendered(error, request.url.path)
    response = Response(content, status)
    response.raw_headers = headers
    return response


def _invalid(error: RequestValidationError) -> InvalidInput:
    fields = tuple(
        FieldError(".".join(str(part) for part in e["loc"]), e["msg"]) for e in error.errors()
    )
    return InvalidInput("The request has invalid fields.", errors=fields)


def _of_framework(error: HTTPException) -> TenantplaneError:
    if error.status_code == 405:
        return InvalidInput(
            "The route does not know this method.",
            hint=f"Allowed: {(error.headers or {}).get('allow', 'see the API reference')}.",
            code="method_not_allowed",
        )
    return NotFound("There is no such route.", code="no_such_route")
