from __future__ import annotations

from typing import Any

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
