"""A call is admitted under the caller's own snapshot alone."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tenantplane.dataplane.ledger.calls import CallRequest
from tenantplane.dataplane.ledger.meter import Meter
from tests.fixtures.ledger import a_snapshot, a_tenant


class Unentered:
    """Stands for a Meter of which nothing but the entry may be reached."""

    def __getattr__(self, name: str) -> Any:
        pytest.fail(f"went on to {name} with another org's snapshot")


@pytest.mark.req("R1")
async def test_a_snapshot_of_another_org_admits_nothing() -> None:
    request = cast("CallRequest", Unentered())
    with pytest.raises(ValueError, match="globex"):
        await Meter.open(
            cast("Meter", Unentered()), a_tenant("acme"), a_snapshot("globex"), request
        )
