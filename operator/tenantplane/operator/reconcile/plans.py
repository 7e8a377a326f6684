"""What a plan's status says, as a pure function of what the registry answered."""

from __future__ import annotations

from tenantplane.core.apis.conditions import ConditionType, Reason
from tenantplane.core.apis.registry import PlanView
from tenantplane.core.errors import TenantplaneError
from tenantplane.operator.reconcile.conditions import Wanted
from tenantplane.operator.reconcile.tenants import Verdict, message_of

_REASONS = {
    "plan_in_use": Reason.PLAN_IN_USE,
    "other_writer": Reason.CONFLICT,
    "stale_generation": Reason.CONFLICT,
}


def of_view(view: PlanView) -> Verdict:
    ready = Wanted(
        ConditionType.READY, "True", Reason.ACCEPTED, f"in force as version {view.version}"
    )
    return Verdict((ready,), {"tenants": view.tenants})


def of_error(error: TenantplaneError) -> Verdict:
    if error.retryable:
        unknown = Wanted(
            ConditionType.READY, "Unknown", Reason.CONTROL_PLANE_UNAVAILABLE, message_of(error)
        )
        return Verdict((unknown,), again=True)
    reason = _REASONS.get(error.error_code, Reason.INVALID)
    refused = Wanted(ConditionType.READY, "False", reason, message_of(error))
    return Verdict((refused,), again=error.error_code in ("plan_in_use", "other_writer"))
