"""What a caller may use: what the org was granted, for its roles, within its key's scopes.

One answer for lists and for calls, from the signed snapshot alone; the rule itself stands in core.
Scopes narrow further, by name, and never widen.
"""

from __future__ import annotations

from collections.abc import Iterable

from tenantplane.core.apis.catalogue import Kind
from tenantplane.core.apis.snapshot import ModelGrant, PromptGrant, Snapshot
from tenantplane.core.derived import Derived
from tenantplane.core.entitlements import for_roles
from tenantplane.core.tenancy import TenantContext

# What was found allowed, by name, roles and scopes: 6 us a call otherwise. A name that is not granted
# is not kept, since callers could make up any number of them.
_allowed: Derived[ModelGrant] = Derived(most=10_000)


def allowed_names(kind: Kind, snapshot: Snapshot, tenant: TenantContext) -> tuple[str, ...]:
    """Of this kind, in the snapshot's order."""
    names = for_roles(kind, _granted(kind, snapshot), snapshot.role_bound, tenant.roles)
    return tuple(name for name in names if in_scope(tenant, name))


def is_allowed(kind: Kind, name: str, snapshot: Snapshot, tenant: TenantContext) -> bool:
    return name in _granted(kind, snapshot) and _is_for(kind, name, snapshot, tenant)


def allowed_models(snapshot: Snapshot, tenant: TenantContext) -> tuple[ModelGrant, ...]:
    granted = set(allowed_names("model", snapshot, tenant))
    return tuple(grant for grant in snapshot.models if grant.name in granted)


def allowed_model(snapshot: Snapshot, tenant: TenantContext, name: str) -> ModelGrant | None:
    who = (name, tenant.roles, tenant.scopes)
    known = _allowed.get(snapshot, who)
    if known is not None:
        return known
    grant = snapshot.model_grant(name)
    if grant is None or not _is_for("model", name, snapshot, tenant):
        return None
    _allowed.put(snapshot, who, grant)
    return grant


def allowed_prompt(snapshot: Snapshot, tenant: TenantContext, name: str) -> PromptGrant | None:
    if not is_allowed("prompt", name, snapshot, tenant):
        return None
    return next(prompt for prompt in snapshot.prompts if prompt.name == name)


def _is_for(kind: Kind, name: str, snapshot: Snapshot, tenant: TenantContext) -> bool:
    """Of one name that was granted: each name is decided by itself, and calls name one."""
    if not in_scope(tenant, name):
        return False
    return bool(for_roles(kind, (name,), snapshot.role_bound, tenant.roles))


def in_scope(tenant: TenantContext, name: str) -> bool:
    """Whether the key's scopes let through something of this name."""
    return tenant.scopes is None or name in tenant.scopes


def _granted(kind: Kind, snapshot: Snapshot) -> Iterable[str]:
    match kind:
        case "tool":
            return snapshot.tools
        case "model":
            return (grant.name for grant in snapshot.models)
        case "prompt":
            return (prompt.name for prompt in snapshot.prompts)
        case "data_source":
            return snapshot.data_sources
