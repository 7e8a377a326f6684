from __future__ import annotations

from dataclasses import replace

import pytest

from tenantplane.core.apis.snapshot import RoleBound, Snapshot
from tenantplane.core.errors import Forbidden
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.sources.documents.access import require_documents
from tests.fixtures.ledger import a_snapshot


def snapshot(*data_sources: str) -> Snapshot:
    return a_snapshot("acme").model_copy(update={"data_sources": data_sources})


def tenant(scopes: frozenset[str] | None = None) -> TenantContext:
    return TenantContext("acme", "acme", "user:u", "u", "pro", "r", scopes=scopes)


def test_whoever_has_the_data_source_is_let_in() -> None:
    require_documents(tenant(), snapshot("documents"))
    require_documents(tenant(frozenset({"documents"})), snapshot("usage", "documents"))


@pytest.mark.parametrize("granted", [(), ("usage",), ("document",), ("documents2",)])
def test_an_org_without_it_is_refused_by_default(granted: tuple[str, ...]) -> None:
    for scopes in (None, frozenset({"documents"})):
        with pytest.raises(Forbidden) as refused:
            require_documents(tenant(scopes), snapshot(*granted))
        assert refused.value.error_code == "data_source_not_allowed"


@pytest.mark.parametrize("scopes", [frozenset(), frozenset({"assistant-1", "usage"})])
def test_a_key_without_it_is_refused_though_its_org_has_it(scopes: frozenset[str]) -> None:
    with pytest.raises(Forbidden) as refused:
        require_documents(tenant(scopes), snapshot("documents"))
    assert refused.value.error_code == "data_source_not_allowed"


@pytest.mark.req("R24")
def test_where_it_is_kept_for_a_role_its_holders_alone_are_let_in() -> None:
    bound = (RoleBound(kind="data_source", name="documents", roles=("lawyer",)),)
    kept = snapshot("documents").model_copy(update={"role_bound": bound})
    with pytest.raises(Forbidden) as refused:
        require_documents(tenant(), kept)
    assert refused.value.error_code == "data_source_not_allowed"
    require_documents(replace(tenant(), roles=frozenset({"lawyer"})), kept)
