"""Which models may answer in place of another: those its grant names, as far as the caller may use
them itself (R55). Pure."""

from __future__ import annotations

from tenantplane.core.apis.snapshot import ModelGrant, Snapshot
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.gate.allowed import allowed_models


def fallback_models(
    snapshot: Snapshot, tenant: TenantContext, grant: ModelGrant
) -> tuple[ModelGrant, ...]:
    """In the grant's order. None for embeddings: another model's vectors lie in another space."""
    if grant.kind != "chat":
        return ()
    allowed = {model.name: model for model in allowed_models(snapshot, tenant)}
    named = (allowed.get(name) for name in dict.fromkeys(grant.fallbacks))
    return tuple(m for m in named if m is not None and m.kind == "chat" and m.name != grant.name)
