"""Who may use the org's documents: its entitlements name the data source, default deny."""

from __future__ import annotations

from typing import Final

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.errors import Forbidden
from tenantplane.core.tenancy import TenantContext

DATA_SOURCE: Final = "documents"


def require_documents(tenant: TenantContext, snapshot: Snapshot) -> None:
    """Raises Forbidden where the org, or the scopes of its key, do not let the caller in."""
    if DATA_SOURCE not in snapshot.data_sources:
        raise Forbidden(
            f"The data source {DATA_SOURCE!r} is not on your org's list.",
            hint="Its plan can grant it: entitlements.dataSources.",
            code="data_source_not_allowed",
        )
    if tenant.scopes is not None and DATA_SOURCE not in tenant.scopes:
        raise Forbidden(
            f"The scopes of your API key do not name the data source {DATA_SOURCE!r}.",
            hint="Use a key that has it.",
            code="data_source_not_allowed",
        )
