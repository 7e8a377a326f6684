"""Whether a run may make its next model call."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import Conflict, NotFound, Unprocessable
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.runtime.settings import RuntimeSettings
from tenantplane.dataplane.runtime.supervisor import _may_go_on
from tests.fixtures.ledger import a_snapshot

TENANT = TenantContext("acme", "acme", "user:u", "u", "pro", "local")
GRANT = ModelGrant(
    name="assistant-1",
    provider="p",
    upstream_model="m",
    input_nanousd_per_token=1,
    output_nanousd_per_token=1,
    max_output_tokens=10,
    context_tokens=100,
)


def a_run(*granted: ModelGrant, model_calls: int = 0, claim_lost: Conflict | None = None) -> Any:
    standing = a_snapshot("acme").model_copy(update={"models": granted})
    return SimpleNamespace(
        run=SimpleNamespace(standing=lambda: standing, tenant=TENANT),
        model=SimpleNamespace(grant=GRANT),
        settings=RuntimeSettings(),
        model_calls=model_calls,
        claim_lost=claim_lost,
    )


def test_a_run_goes_on_with_a_model_that_its_org_may_use() -> None:
    _may_go_on(a_run(GRANT))


def test_a_model_that_was_taken_away_meanwhile_is_asked_no_more() -> None:
    with pytest.raises(NotFound, match="taken off your org's list") as refused:
        _may_go_on(a_run(GRANT.model_copy(update={"name": "another"})))
    assert refused.value.error_code == "model_not_found"


def test_a_run_that_lost_its_thread_makes_no_call() -> None:
    with pytest.raises(Conflict, match="lost"):
        _may_go_on(a_run(GRANT, claim_lost=Conflict("The thread was lost.")))


def test_a_run_is_halted_after_its_most_calls() -> None:
    with pytest.raises(Unprocessable, match="halted"):
        _may_go_on(a_run(GRANT, model_calls=RuntimeSettings().max_model_calls))
