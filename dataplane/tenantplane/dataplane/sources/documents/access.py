"""Who may use the org's documents: its entitlements name the data source, default deny."""

from __future__ import annotations

from typing import Final

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.errors import Forbidden
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.gate.allowed import is_allowed

DATA_SOURCE: Final = "documents"


def require_documents(tenant: TenantContext, snapshot: Snapshot) -> None:
    """Raises Forbidden where the org's list, the caller's roles or the scopes of its key do not let
    it in."""
    if not is_allowed("data_source", DATA_SOURCE, snapshot, tenant):
        raise Forbidden(
            f"The data source {DATA_SOURCE!r} is not on your org's list, or not for your roles or"
            " the scopes of your API key.",
            hint="entitlements.dataSources grants it; `tenantplane entitlements explain` says why.",
            code="data_source_not_allowed",
        )
