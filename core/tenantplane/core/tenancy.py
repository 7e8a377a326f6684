"""Who a request is for: decided once, from verified claims or an API key, and never again."""

from __future__ import annotations

from dataclasses import dataclass, field

SEPARATOR = "::"


@dataclass(frozen=True, slots=True)
class TenantContext:
    """The verified caller. Immutable: nothing downstream (header, path, body) can override it."""

    org_id: str
    root_org_id: str
    principal: str  # "user:<sub>" or "key:<key_id>"; the scope of idempotency keys
    user_id: str
    plan: str
    region: str
    roles: frozenset[str] = field(default_factory=frozenset)
    key_id: str | None = None
    scopes: frozenset[str] | None = None  # None: not limited by scopes


def namespaced(org_id: str, resource_id: str) -> str:
    """The form in which thread ids and memory keys are stored: `acme::0192…`.

    Raises ValueError where `org_id` could blur the border between the two parts.
    """
    if not org_id or SEPARATOR in org_id:
        raise ValueError("org_id must be a non-empty DNS label")
    return f"{org_id}{SEPARATOR}{resource_id}"


def bare(org_id: str, stored_id: str) -> str:
    """The inverse of `namespaced`. Raises ValueError where the id belongs to another org."""
    prefix = f"{org_id}{SEPARATOR}"
    if not org_id or not stored_id.startswith(prefix):
        raise ValueError("the stored id belongs to another org")
    return stored_id[len(prefix) :]
