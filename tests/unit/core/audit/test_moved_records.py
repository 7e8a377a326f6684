"""A sealed record that was moved does not even open: what it says of itself is not asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tenantplane.core.audit.record import RecordToSeal, SealedRecord, open_sealed, seal
from tenantplane.core.errors import Forbidden
from tenantplane.core.ids import new_id
from tenantplane.core.keys.envelope import DataKey, new_data_key

KEY = DataKey(new_data_key())


@pytest.fixture
def sealed() -> SealedRecord:
    record = RecordToSeal(
        record_id=new_id(),
        org_id="acme",
        user_id="alice",
        kind="admin",
        resource="PUT /v1/tenants/acme",
        occurred_at=datetime(2026, 1, 2, tzinfo=UTC),
        status="completed",
    )
    return seal(record, KEY)


@pytest.mark.fault("F60")
def test_under_another_org(sealed: SealedRecord) -> None:
    with pytest.raises(Forbidden) as refused:
        open_sealed("globex", sealed, KEY)
    assert refused.value.error_code == "ciphertext_refused"


@pytest.mark.fault("F60")
def test_under_another_id(sealed: SealedRecord) -> None:
    with pytest.raises(Forbidden) as refused:
        open_sealed("acme", replace(sealed, record_id=new_id()), KEY)
    assert refused.value.error_code == "ciphertext_refused"
