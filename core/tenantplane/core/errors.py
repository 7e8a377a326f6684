"""The one error tree. Every refusal that a user can meet is a leaf here.

    TenantplaneError
    ├── InvalidInput               400  the request is malformed; `errors` lists every bad field
    │   ├── UnsupportedMediaType   415  a body of a kind that is not read here
    │   └── Unprocessable          422  well-formed, but breaks a rule (manifest, idempotency key)
    ├── Unauthenticated            401  not who you say
    │   └── StaleClaims            401  the token is older than the org's plan or epoch: exchange it again
    ├── HardCapReached             402  halted: settled spend plus open holds would pass the hard cap
    ├── ProviderExcess             402  halted: a provider reported more than a call was held for
    ├── Forbidden                  403  not yours, or not on the list
    │   └── Suspended              403  the org is suspended
    ├── NotFound                   404  not there (the same answer for another org's)
    ├── Conflict                   409  the state does not allow it (in use, in flight, another writer)
    ├── WrongPlane                 421  another plane serves this org; the right one is named
    ├── RateLimited                429  quota of requests or tokens
    ├── SoftCapReached             429  no new work until the period ends or the cap is raised
    ├── DependencyUnavailable      503  Postgres, Valkey, a provider or the control plane; bounded, retry
    │   ├── OfflineTooLong         503  the plane's signed entitlements are older than their offline time
    │   └── ProviderUnavailable    503  a model provider: away, limiting, broken, paused or busy
    └── ConfigurationRefused       ---  start-up refuses to run (wrong role, missing key, unsafe mode)

It is mapped once to RFC 9457 (`problem`), once to OpenAI's error shape (`openai_error`) and once
to kopf's errors (operator/handlers). Messages never carry a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

PROBLEM_BASE = "https://tenantplane.io/problems/"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field of an input: `path` in dotted form (`limits.hardCapUSD`), and what to do."""

    path: str
    message: str


class TenantplaneError(Exception):
    """Root of the tree. `detail` says what and where, `hint` says what to do next; `fields` are
    response fields that go with it, `extra` members of the problem's body."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        retry_after_seconds: float | None = None,
        errors: tuple[FieldError, ...] = (),
        fields: Mapping[str, str] | None = None,
        **extra: str | int,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.error_code = code or self.code
        self.retry_after_seconds = retry_after_seconds
        self.errors = errors
        self.fields = fields or {}
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.detail} {self.hint}" if self.hint else self.detail

    def problem(self, instance: str | None = None) -> dict[str, Any]:
        """The body of `application/problem+json` (RFC 9457 section 3)."""
        body: dict[str, Any] = {
            "type": PROBLEM_BASE + self.error_code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.error_code,
        }
        if self.hint:
            body["hint"] = self.hint
        if instance:
            body["instance"] = instance
        if self.errors:
            body["errors"] = [{"path": e.path, "message": e.message} for e in self.errors]
        return body | self.extra

    def openai_error(self) -> dict[str, Any]:
        """The body that OpenAI's clients parse (platform.openai.com/docs/guides/error-codes)."""
        kind = {
            400: "invalid_request_error",
            401: "authentication_error",
            402: "insufficient_quota",
            403: "permission_error",
            404: "not_found_error",
            409: "conflict_error",
            415: "invalid_request_error",
            422: "invalid_request_error",
            429: "rate_limit_error",
        }.get(self.status, "server_error")
        param = self.errors[0].path if self.errors else None
        return {
            "error": {"message": str(self), "type": kind, "param": param, "code": self.error_code}
        }

    def headers(self) -> dict[str, str]:
        """Response fields that go with the error."""
        if self.retry_after_seconds is None:
            return dict(self.fields)
        # RFC 9110 section 10.2.3: whole seconds; rounding down would invite a call too early.
        seconds = max(1, -int(-self.retry_after_seconds // 1))
        return {**self.fields, "retry-after": str(seconds)}


class InvalidInput(TenantplaneError):
    code, status, title = "invalid_input", 400, "Invalid input"


class Unprocessable(InvalidInput):
    code, status, title = "unprocessable", 422, "Unprocessable input"


class UnsupportedMediaType(InvalidInput):
    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class Unauthenticated(TenantplaneError):
    code, status, title = "unauthenticated", 401, "Not authenticated"

    def headers(self) -> dict[str, str]:
        # RFC 6750 section 3
        return {**super().headers(), "www-authenticate": f'Bearer error="{self._bearer_error()}"'}

    def _bearer_error(self) -> str:
        return "invalid_token"


class StaleClaims(Unauthenticated):
    code, title = "stale_claims", "The token's claims are out of date"

    def _bearer_error(self) -> str:
        return "stale_claims"


class HardCapReached(TenantplaneError):
    code, status, title = "hard_cap_reached", 402, "Hard cap reached"


class ProviderExcess(TenantplaneError):
    code, status, title = "provider_excess", 402, "A provider's excess waits for a person"


class Forbidden(TenantplaneError):
    code, status, title = "forbidden", 403, "Forbidden"


class Suspended(Forbidden):
    code, title = "suspended", "Suspended"


class NotFound(TenantplaneError):
    code, status, title = "not_found", 404, "Not found"


class Conflict(TenantplaneError):
    code, status, title = "conflict", 409, "Conflict"


class WrongPlane(TenantplaneError):
    code, status, title = "wrong_plane", 421, "Misdirected request"


class RateLimited(TenantplaneError):
    code, status, title, retryable = "rate_limited", 429, "Too many requests", True


class SoftCapReached(TenantplaneError):
    code, status, title, retryable = "soft_cap_reached", 429, "Soft cap reached", True


class DependencyUnavailable(TenantplaneError):
    code, status, title, retryable = "dependency_unavailable", 503, "Dependency unavailable", True


class OfflineTooLong(DependencyUnavailable):
    code, title = "offline_too_long", "Signed entitlements are too old"


class ProviderUnavailable(DependencyUnavailable):
    """`may_have_billed`: the request was sent, and the provider may charge for it.
    `told_seconds`: how long the provider itself said to wait; None where it said nothing."""

    code, title = "provider_unavailable", "Model provider unavailable"

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        retry_after_seconds: float | None = None,
        may_have_billed: bool = False,
        told_seconds: float | None = None,
    ) -> None:
        super().__init__(detail, hint=hint, code=code, retry_after_seconds=retry_after_seconds)
        self.may_have_billed = may_have_billed
        self.told_seconds = told_seconds


class ConfigurationRefused(TenantplaneError):
    code, status, title = "configuration_refused", 500, "Configuration refused"
