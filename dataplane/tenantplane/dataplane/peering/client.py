"""HTTPS to the control plane. A plane always dials out; nothing dials in.

Every refusal is a leaf of core/errors.py; whatever is no answer, or no answer of a control plane,
is DependencyUnavailable.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import httpx2
from pydantic import BaseModel, JsonValue, ValidationError

from tenantplane.core import errors
from tenantplane.core.apis.planes import Enrolled, EnrollRequest
from tenantplane.core.errors import DependencyUnavailable, TenantplaneError
from tenantplane.dataplane.gate.trust import Jwks

_BY_STATUS: Final[dict[int, type[TenantplaneError]]] = {
    400: errors.InvalidInput,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    422: errors.Unprocessable,
    429: errors.RateLimited,
}
_RETRY_SECONDS: Final = 2.0

_Document = TypeVar("_Document", bound=BaseModel)


class ControlPlaneClient:
    """Calls that need no token. Safe for concurrent use; redirects are never followed."""

    def __init__(self, base_url: str, *, timeout_seconds: float) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout_seconds = timeout_seconds
        self.http = httpx2.AsyncClient(base_url=self.base_url, timeout=timeout_seconds)

    async def close(self) -> None:
        await self.http.aclose()

    async def enrol(self, plane: str, request: EnrollRequest) -> Enrolled:
        """POST /v1/planes/{name}/enroll. Raises Unauthenticated (`enrolment_token_used`)."""
        response = await self.call(
            "POST", f"/v1/planes/{plane}/enroll", json=request.model_dump(mode="json")
        )
        return document(response, Enrolled)

    async def jwks(self) -> Jwks:
        """The public keys that sign snapshots, beacons and access tokens."""
        body = _json(await self.call("GET", "/.well-known/jwks.json"))
        if not isinstance(body, dict):
            raise _not_ours("its JWKS is no JSON object")
        return body

    async def call(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """A successful response, or the error that it stands for."""
        try:
            response = await self.http.request(method, path, **request)
        except httpx2.HTTPError as failed:
            raise self.unreachable(failed) from None
        return accepted(response)

    def unreachable(self, failed: httpx2.HTTPError) -> DependencyUnavailable:
        # Only the kind: the message of a transport error may quote what was sent.
        return DependencyUnavailable(
            f"The control plane at {self.base_url} does not answer ({type(failed).__name__}).",
            hint="Check that it runs, and TENANTPLANE_CONTROL_PLANE_URL.",
            code="control_plane_unavailable",
            retry_after_seconds=_RETRY_SECONDS,
        )


def accepted(response: httpx2.Response) -> httpx2.Response:
    """`response` where it is a success. Raises the error that it says otherwise."""
    if response.is_success:
        return response
    kind = _BY_STATUS.get(response.status_code, DependencyUnavailable)
    code, detail = _problem(response)
    raise kind(
        f"The control plane answered {response.status_code}: {detail}",
        code=code,
        retry_after_seconds=_RETRY_SECONDS if issubclass(kind, DependencyUnavailable) else None,
    )


def document(response: httpx2.Response, kind: type[_Document]) -> _Document:
    """The body as `kind`. Raises DependencyUnavailable where it is something else: a proxy's page,
    or a control plane of a version that this plane does not understand."""
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as failed:
        raise _not_ours(f"its {kind.__name__} has {failed.error_count()} wrong fields") from None


def _problem(response: httpx2.Response) -> tuple[str | None, str]:
    """Code and detail of a problem document (RFC 9457) or of an OAuth error (RFC 6749 §5.2)."""
    try:
        body = response.json()
    except ValueError:
        return None, "no problem document."
    if not isinstance(body, dict):
        return None, "no problem document."
    code = body.get("code") or body.get("error")
    detail = body.get("detail") or body.get("error_description") or "no detail."
    return (str(code) if code else None), str(detail)


def _json(response: httpx2.Response) -> JsonValue:
    try:
        body: JsonValue = response.json()
    except ValueError:
        raise _not_ours("its answer is no JSON") from None
    return body


def _not_ours(reason: str) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"The control plane's answer is not understood: {reason}.",
        code="control_plane_garbage",
        retry_after_seconds=_RETRY_SECONDS,
    )
