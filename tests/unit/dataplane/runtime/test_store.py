"""Items of the store at rest: a value opens under its own org, namespace and key alone."""

from __future__ import annotations

from typing import Any, cast

import pytest
from langgraph.store.base import PutOp

from tenantplane.core.db.pool import Database
from tenantplane.core.errors import Forbidden
from tenantplane.core.keys.envelope import DataKey, new_data_key
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.runtime.store import TenantStore

KEY = DataKey(new_data_key())
VALUE = {"combination": 4711}


def store_of(org_id: str) -> TenantStore:
    return TenantStore(cast("Database", None), cast("DataKeys", None), org_id)


def row(**changed: str) -> dict[str, Any]:
    body = store_of("acme")._seal(KEY, PutOp(("safe",), "k", VALUE))
    return {"namespace": "acme::safe", "key": "k", "body": body} | changed


def test_it_opens_where_it_was_put() -> None:
    assert store_of("acme")._open(KEY, row()) == VALUE


@pytest.mark.fault("F60")
@pytest.mark.parametrize(
    ("reader", "changed"),
    [
        ("globex", {}),
        ("acme", {"namespace": "acme::other"}),
        ("acme", {"key": "other"}),
    ],
    ids=["org", "namespace", "key"],
)
def test_it_opens_nowhere_else(reader: str, changed: dict[str, str]) -> None:
    with pytest.raises(Forbidden) as refused:
        store_of(reader)._open(KEY, row(**changed))
    assert refused.value.error_code == "checkpoint_refused"
