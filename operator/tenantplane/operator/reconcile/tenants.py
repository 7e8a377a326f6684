"""What a tenant's status says, as a pure function of what the registry answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tenantplane.core.apis.conditions import ConditionType, Reason
from tenantplane.core.apis.registry import TenantView
from tenantplane.core.errors import TenantplaneError
from tenantplane.operator.reconcile.conditions import Wanted

_REASONS = {
    "unknown_plan": Reason.UNKNOWN_PLAN,
    "not_yet_supported": Reason.NOT_YET_SUPPORTED,
    "control_plane_unavailable": Reason.CONTROL_PLANE_UNAVAILABLE,
    "other_writer": Reason.CONFLICT,
    "stale_generation": Reason.CONFLICT,
    "org_id_used": Reason.CONFLICT,
}
# Refusals that can pass without an edit of this object: a plan may be applied, a parent registered.
_PASSING = frozenset({"unknown_plan", "unknown_parent", "other_writer"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Conditions and fields for the status, and whether to look again without an event."""

    conditions: tuple[Wanted, ...]
    fields: dict[str, Any] = field(default_factory=dict)
    again: bool = False


def of_view(view: TenantView) -> Verdict:
    """The registry holds the tenant: is it served?"""
    registered = Wanted(
        ConditionType.REGISTERED, "True", Reason.REGISTERED, f"registered as version {view.version}"
    )
    fields: dict[str, Any] = {
        "entitlementsVersion": view.version,
        "tokenEpoch": view.token_epoch,
    }
    if view.plane is None:
        message = f"no data plane is enrolled in region {view.spec.region}: enrol one"
        return Verdict(_not_serving(registered, Reason.WAITING_FOR_PLANE, message), fields, True)
    fields |= {"plane": view.plane, "endpoint": view.endpoint}
    if not view.applied:
        message = f"data plane {view.plane} has not applied version {view.version} yet"
        return Verdict(_not_serving(registered, Reason.PROGRESSING, message), fields, True)
    serving = Wanted(
        ConditionType.DATA_PLANE_READY,
        "True",
        Reason.SERVING,
        f"data plane {view.plane} has applied version {view.version}",
    )
    if view.status == "suspended":
        ready = Wanted(
            ConditionType.READY, "False", Reason.SUSPENDED, "suspended: set spec.suspended to false"
        )
    else:
        ready = Wanted(ConditionType.READY, "True", Reason.SERVING, f"served at {view.endpoint}")
    return Verdict((registered, serving, ready), fields)


def of_error(error: TenantplaneError) -> Verdict:
    """The registry refused, or could not be asked; what it held before stays in force."""
    reason = _REASONS.get(error.error_code, Reason.INVALID)
    if error.retryable:
        # Planes go on serving: Ready keeps what it said, only our own knowledge is in doubt.
        unknown = Wanted(
            ConditionType.REGISTERED, "Unknown", Reason.CONTROL_PLANE_UNAVAILABLE, message_of(error)
        )
        return Verdict((unknown,), again=True)
    message = message_of(error)
    return Verdict(
        (
            Wanted(ConditionType.REGISTERED, "False", reason, message),
            Wanted(ConditionType.READY, "False", reason, message),
        ),
        again=error.error_code in _PASSING,
    )


def message_of(error: TenantplaneError) -> str:
    """One line: what is wrong, every bad field, and what to do."""
    fields = "; ".join(f"{e.path}: {e.message}" for e in error.errors)
    return f"{error} ({fields})" if fields else str(error)


def _not_serving(registered: Wanted, reason: Reason, message: str) -> tuple[Wanted, ...]:
    return (
        registered,
        Wanted(ConditionType.DATA_PLANE_READY, "False", reason, message),
        Wanted(ConditionType.READY, "False", reason, message),
    )
