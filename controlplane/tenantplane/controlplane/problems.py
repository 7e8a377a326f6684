"""Errors on their way out: RFC 9457, once for all routes, and never more than the caller may know."""

from __future__ import annotations

import difflib
import logging
import typing
from collections.abc import Sequence
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from tenantplane.core.errors import FieldError, InvalidInput, TenantplaneError, Unprocessable

PROBLEM_MEDIA_TYPE = "application/problem+json"

_HTTP_CODES = {404: "no_such_route", 405: "method_not_allowed", 413: "body_too_large"}

_log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Maps every error that a route can raise."""
    app.add_exception_handler(TenantplaneError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(psycopg.DataError, _unstorable)
    app.add_exception_handler(HTTPException, _http)


def problem_response(error: TenantplaneError, instance: str | None = None) -> Response:
    return JSONResponse(
        error.problem(instance),
        status_code=error.status,
        headers=error.headers(),
        media_type=PROBLEM_MEDIA_TYPE,
    )


def internal_error(instance: str) -> Response:
    """What a caller learns of a fault of ours: that there was one."""
    return problem_response(
        TenantplaneError("An unexpected error; it is in the service's log."), instance
    )


def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, TenantplaneError)
    if error.status >= 500:
        _log.warning("%s: %s", error.error_code, error)
    return problem_response(error, request.url.path)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        malformed = InvalidInput("The body is not JSON.", hint="Send application/json.")
        return problem_response(malformed, request.url.path)
    fields = tuple(_field_error(fault, _body_model(request)) for fault in faults)
    summary = "; ".join(f"{field.path}: {field.message}" for field in fields[:3])
    more = f" (and {len(fields) - 3} more)" if len(fields) > 3 else ""
    refused = Unprocessable(f"{summary}{more}", code="invalid_fields", errors=fields)
    return problem_response(refused, request.url.path)


def _unstorable(request: Request, error: Exception) -> Response:
    # NUL in a text, a number beyond 64 bits: well-formed JSON that no column can hold.
    _log.info("value refused by the database: %s", type(error).__name__)
    refused = Unprocessable(
        "A value cannot be stored.",
        hint="Remove NUL characters from texts, and keep numbers within 64 bits.",
        code="value_cannot_be_stored",
    )
    return problem_response(refused, request.url.path)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = TenantplaneError(str(error.detail)).problem(request.url.path) | {
        "title": str(error.detail),
        "status": error.status_code,
        "code": _HTTP_CODES.get(error.status_code, "bad_request"),
    }
    return JSONResponse(
        body, error.status_code, headers=error.headers, media_type=PROBLEM_MEDIA_TYPE
    )


def _field_error(fault: dict[str, Any], model: type[BaseModel] | None) -> FieldError:
    where = [str(part) for part in fault["loc"]]
    if where and where[0] in ("body", "query", "path", "header"):
        where = where[1:]
    path = ".".join(where) or "body"
    if fault["type"] == "extra_forbidden":
        return FieldError(path, _unknown_field(fault["loc"][1:], model))
    message = str(fault["msg"]).removeprefix("Value error, ")
    return FieldError(path, message)


def _unknown_field(where: Sequence[str | int], model: type[BaseModel] | None) -> str:
    known = sorted(_fields_at(model, where[:-1]))
    near = difflib.get_close_matches(str(where[-1]), known, n=1)
    if near:
        return f"is not a known field: did you mean {near[0]!r}?"
    return f"is not a known field: remove it, or use one of {', '.join(known) or 'none'}"


def _fields_at(model: type[BaseModel] | None, where: Sequence[str | int]) -> set[str]:
    """Names of the fields, as the wire has them, at a place in a document of `model`."""
    for part in where:
        if isinstance(part, int) or model is None:
            continue
        model = _model_in(_annotation(model, part))
    if model is None:
        return set()
    return {field.alias or name for name, field in model.model_fields.items()}


def _annotation(model: type[BaseModel], name: str) -> object:
    for field_name, field in model.model_fields.items():
        if name in (field.alias, field_name):
            return field.annotation
    return None


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model in `M`, `M | None` or `tuple[M, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in typing.get_args(annotation))
    return next((model for model in found if model is not None), None)


def _body_model(request: Request) -> type[BaseModel] | None:
    endpoint = request.scope.get("endpoint")
    if endpoint is None:
        return None
    hints = typing.get_type_hints(endpoint, include_extras=True)
    hints.pop("return", None)
    # What is Annotated is a dependency or a parameter; the body stands there as its model.
    bodies = (h for h in hints.values() if typing.get_origin(h) is not typing.Annotated)
    return next((model for hint in bodies if (model := _model_in(hint))), None)
