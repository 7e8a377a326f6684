from __future__ import annotations

from typing import Any

import pytest

from tenantplane.core.apis.conditions import ConditionType, Reason
from tenantplane.core.apis.registry import TenantView
from tenantplane.core.apis.tenant import TenantSpec
from tenantplane.core.errors import Conflict, DependencyUnavailable, FieldError, Unprocessable
from tenantplane.operator.reconcile import tenants
from tenantplane.operator.reconcile.conditions import Wanted


def _view(**changes: Any) -> TenantView:
    fields: dict[str, Any] = {
        "org_id": "acme",
        "root_org_id": "acme",
        "status": "active",
        "spec": TenantSpec.model_validate({"plan": "starter"}),
        "writer": "cli",
        "generation": 1,
        "version": 3,
        "token_epoch": 1,
        "plane": "shared-1",
        "endpoint": "http://plane",
        "applied": True,
    }
    return TenantView.model_validate(fields | changes)


def _ready(verdict: tenants.Verdict) -> Wanted:
    return next(c for c in verdict.conditions if c.type is ConditionType.READY)


def test_ready_means_that_the_plane_has_applied_the_version() -> None:
    served = tenants.of_view(_view())
    assert (_ready(served).status, _ready(served).reason) == ("True", Reason.SERVING)
    assert not served.again
    waiting = tenants.of_view(_view(applied=False))
    assert (_ready(waiting).status, _ready(waiting).reason) == ("False", Reason.PROGRESSING)
    assert waiting.again


def test_a_region_without_a_plane_says_what_to_do() -> None:
    verdict = tenants.of_view(_view(plane=None, endpoint=None, applied=False))
    assert _ready(verdict).reason is Reason.WAITING_FOR_PLANE
    assert "enrol one" in _ready(verdict).message
    assert verdict.again


def test_a_suspended_tenant_is_registered_and_not_ready() -> None:
    verdict = tenants.of_view(_view(status="suspended"))
    assert (_ready(verdict).status, _ready(verdict).reason) == ("False", Reason.SUSPENDED)
    assert not verdict.again


def test_an_unknown_plan_is_looked_at_again_and_dedicated_is_not() -> None:
    unknown = tenants.of_error(Conflict("no plan", code="unknown_plan"))
    assert (_ready(unknown).reason, unknown.again) == (Reason.UNKNOWN_PLAN, True)
    dedicated = tenants.of_error(Unprocessable("not yet", code="not_yet_supported"))
    assert (_ready(dedicated).reason, dedicated.again) == (Reason.NOT_YET_SUPPORTED, False)


def test_ready_keeps_its_word_while_the_control_plane_is_away() -> None:
    verdict = tenants.of_error(DependencyUnavailable("away", code="control_plane_unavailable"))
    assert [c.type for c in verdict.conditions] == [ConditionType.REGISTERED]
    assert verdict.again


def test_every_bad_field_stands_in_the_message() -> None:
    error = Unprocessable("bad", errors=(FieldError("a.b", "x"), FieldError("c", "y")))
    assert tenants.message_of(error) == "bad (a.b: x; c: y)"


def _isolation(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "reported_at": "2026-01-01T00:00:00Z",
        "age_seconds": 10,
        "interval_seconds": 3600,
        "refusals": 0,
        "warnings": 0,
    }
    return fields | changes


FINDING = {"severity": "refuse", "subject": "dataplane.thread", "message": "has no forced RLS"}


def _verified(verdict: tenants.Verdict) -> Wanted:
    return next(c for c in verdict.conditions if c.type is ConditionType.ISOLATION_VERIFIED)


@pytest.mark.parametrize(
    ("isolation", "status", "reason"),
    [
        (None, "Unknown", Reason.NOT_REPORTED_YET),
        (_isolation(), "True", Reason.VERIFIED),
        (_isolation(warnings=3, first={**FINDING, "severity": "warn"}), "True", Reason.VERIFIED),
        (_isolation(age_seconds=7260), "True", Reason.VERIFIED),
        (_isolation(age_seconds=7261), "Unknown", Reason.STALE),
        (_isolation(refusals=2, first=FINDING), "False", Reason.FINDINGS),
        (_isolation(refusals=2, first=FINDING, age_seconds=9e9), "False", Reason.FINDINGS),
    ],
    ids=["none", "clean", "warned", "old", "stale", "refused", "refused-and-stale"],
)
def test_isolation_is_what_the_plane_found_last(
    isolation: dict[str, Any] | None, status: str, reason: Reason
) -> None:
    verdict = tenants.of_view(_view(isolation=isolation))
    assert (_verified(verdict).status, _verified(verdict).reason) == (status, reason)
    # Doubt does not end service; a refusal does, and Ready must say so.
    wanted = ("False", Reason.FINDINGS) if status == "False" else ("True", Reason.SERVING)
    assert (_ready(verdict).status, _ready(verdict).reason) == wanted
    assert not verdict.again


def test_the_first_finding_is_named_and_the_others_counted() -> None:
    several = _verified(tenants.of_view(_view(isolation=_isolation(refusals=3, first=FINDING))))
    assert "dataplane.thread has no forced RLS (and 2 more)" in several.message
    one = _verified(tenants.of_view(_view(isolation=_isolation(refusals=1, first=FINDING))))
    assert one.message.endswith("dataplane.thread has no forced RLS")


def test_the_message_stays_as_it_is_while_nothing_changes() -> None:
    """A status is written where it changes: a time in it would be a write at each resync."""
    said = {
        _verified(tenants.of_view(_view(isolation=_isolation(age_seconds=age)))).message
        for age in (1, 2, 3000)
    }
    assert len(said) == 1


def test_isolation_is_said_of_tenants_that_are_not_served_too() -> None:
    refused = _isolation(refusals=1, first=FINDING)
    progressing = tenants.of_view(_view(applied=False, isolation=refused))
    assert _verified(progressing).reason is Reason.FINDINGS
    assert _ready(progressing).reason is Reason.PROGRESSING
    suspended = tenants.of_view(_view(status="suspended", isolation=refused))
    assert _ready(suspended).reason is Reason.SUSPENDED
    unplaced = tenants.of_view(_view(plane=None, endpoint=None, applied=False))
    assert _verified(unplaced).reason is Reason.NOT_REPORTED_YET


def test_a_control_plane_that_refuses_its_own_database_is_said_and_ready_keeps_its_word() -> None:
    error = DependencyUnavailable("refused", code="isolation_not_verified")
    verdict = tenants.of_error(error)
    assert (_verified(verdict).status, _verified(verdict).reason) == ("False", Reason.FINDINGS)
    assert _verified(verdict).message.startswith("control plane")
    assert ConditionType.READY not in [c.type for c in verdict.conditions]
    assert verdict.again
