from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from tenantplane.core.apis.snapshot import Level, ModelGrant, RoleBound, Snapshot
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.models.fallbacks import fallback_models


def model(name: str, *fallbacks: str, kind: Literal["chat", "embedding"] = "chat") -> ModelGrant:
    return ModelGrant(
        name=name,
        kind=kind,
        provider=name,
        upstream_model=name,
        input_nanousd_per_token=1,
        output_nanousd_per_token=1,
        max_output_tokens=1,
        context_tokens=1,
        fallbacks=fallbacks,
    )


def names(*models: ModelGrant, roles: tuple[str, ...] = (), **context: Any) -> list[str]:
    snapshot = Snapshot(
        org_id="acme",
        root_org_id="acme",
        version=1,
        issued_at=datetime(2026, 1, 1, tzinfo=UTC),
        status="active",
        plane="p",
        region="r",
        plan="pro",
        token_epoch=0,
        max_offline_seconds=900,
        price_book_version=1,
        levels=(Level(kind="org", id="acme"),),
        models=models,
        role_bound=(RoleBound(kind="model", name="best", roles=("analyst",)),),
    )
    tenant = TenantContext("acme", "acme", "u", "u", "pro", "r", roles=frozenset(roles), **context)
    return [m.name for m in fallback_models(snapshot, tenant, models[0])]


FIRST = model("first", "best", "second", "third", "first", "second", "not-granted")
OTHERS = (model("third"), model("second"), model("best"))


def test_in_the_grants_order_and_each_once() -> None:
    assert names(FIRST, *OTHERS, roles=("analyst",)) == ["best", "second", "third"]


@pytest.mark.req("R24", "R55")
def test_only_what_the_caller_may_use_itself() -> None:
    assert names(FIRST, *OTHERS) == ["second", "third"]
    assert names(FIRST, *OTHERS, scopes=frozenset({"first", "third"})) == ["third"]


def test_no_embeddings() -> None:
    vectors = model("vectors", "others", kind="embedding")
    assert names(vectors, model("others", kind="embedding")) == []
    assert names(model("a", "vectors"), vectors) == []
