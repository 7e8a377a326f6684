"""A call is admitted under the caller's own snapshot alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.ledger.calls import CallRequest
from tenantplane.dataplane.ledger.meter import Meter


class Unentered:
    """Stands for a Meter of which nothing but the entry may be reached."""

    def __getattr__(self, name: str) -> Any:
        pytest.fail(f"went on to {name} with another org's snapshot")


@pytest.mark.req("R1")
async def test_a_snapshot_of_another_org_admits_nothing() -> None:
    tenant = TenantContext("acme", "acme", "user:u", "u", "pro", "r")
    other = Snapshot(
        org_id="globex",
        root_org_id="globex",
        version=1,
        issued_at=datetime(2026, 1, 1, tzinfo=UTC),
        status="active",
        plane="p",
        region="r",
        plan="pro",
        token_epoch=0,
        max_offline_seconds=900,
        price_book_version=1,
        levels=(),
    )
    request = cast("CallRequest", Unentered())
    with pytest.raises(ValueError, match="globex"):
        await Meter.open(cast("Meter", Unentered()), tenant, other, request)
