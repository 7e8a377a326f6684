"""A request at rest opens for its own call of its own org alone (F60)."""

from __future__ import annotations

from typing import cast
from uuid import UUID

import pytest

from tenantplane.core.audit.content import content_of
from tenantplane.core.db.clock import DatabaseClock
from tenantplane.core.errors import Forbidden
from tenantplane.core.ids import new_id
from tenantplane.core.keys.envelope import DataKey, new_data_key
from tenantplane.dataplane.ledger.closing import Call, Closer, encrypt_request
from tenantplane.dataplane.ledger.epoch import FencedStore
from tenantplane.dataplane.ledger.excess import Excesses
from tenantplane.dataplane.ledger.journal import Journal
from tenantplane.dataplane.ledger.keys import DataKeys

REQUEST = content_of([{"role": "user", "content": "hello"}])


class OneKey:
    """Stands for DataKeys; both orgs have the same key, so that only the binding tells."""

    def __init__(self, key: DataKey) -> None:
        self._key = key

    async def of(self, org_id: str) -> DataKey:
        return self._key


@pytest.fixture
def key() -> DataKey:
    return DataKey(new_data_key())


@pytest.fixture
def closer(key: DataKey) -> Closer:
    return Closer(
        DatabaseClock(),
        cast("Journal", None),
        cast("FencedStore", None),
        cast("DataKeys", OneKey(key)),
        cast("Excesses", None),
    )


def a_call(org_id: str, intent_id: UUID) -> Call:
    return Call(
        org_id=org_id,
        intent_id=intent_id,
        root_org_id=org_id,
        user_id="alice",
        run_id=new_id(),
        call_no=0,
        thread_id=None,
        kind="model",
        resource="gpt-test",
    )


@pytest.mark.fault("F60")
async def test_a_request_opens_for_its_own_call_alone(closer: Closer, key: DataKey) -> None:
    intent = new_id()
    sealed = encrypt_request(a_call("acme", intent), REQUEST, key)
    assert await closer.decrypt_request(a_call("acme", intent), sealed) == REQUEST
    for other in (a_call("globex", intent), a_call("acme", new_id())):
        with pytest.raises(Forbidden) as refused:
            await closer.decrypt_request(other, sealed)
        assert refused.value.error_code == "ciphertext_refused"
