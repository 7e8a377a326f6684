"""What a tenant's status says, as a pure function of what the registry answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tenantplane.core.apis.conditions import ConditionType, Reason
from tenantplane.core.apis.planes import ISOLATION_NOT_VERIFIED, IsolationFinding
from tenantplane.core.apis.registry import IsolationView, TenantView
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
    isolation = isolation_of(view)
    known = (registered, isolation)
    if view.plane is None:
        message = f"no data plane is enrolled in region {view.spec.region}: enrol one"
        return Verdict(_not_serving(known, Reason.WAITING_FOR_PLANE, message), fields, True)
    fields |= {"plane": view.plane, "endpoint": view.endpoint}
    if not view.applied:
        message = f"data plane {view.plane} has not applied version {view.version} yet"
        return Verdict(_not_serving(known, Reason.PROGRESSING, message), fields, True)
    serving = Wanted(
        ConditionType.DATA_PLANE_READY,
        "True",
        Reason.SERVING,
        f"data plane {view.plane} has applied version {view.version}",
    )
    return Verdict((*known, serving, _ready(view, isolation)), fields)


def isolation_of(view: TenantView) -> Wanted:
    """IsolationVerified: what the plane found in its own live database when it last looked.

    A refusal stands until a later report lifts it, however old it is: the plane serves nothing
    meanwhile. Warnings are told and change nothing: they are what a managed server does not allow,
    and what cross-tenant jobs need. No times in messages: a status is written where it changes.
    """
    kind, report = ConditionType.ISOLATION_VERIFIED, view.isolation
    if view.plane is None or report is None:
        message = "no data plane has the tenant yet"
        if view.plane:
            message = f"data plane {view.plane} has not reported a check of its database yet"
        return Wanted(kind, "Unknown", Reason.NOT_REPORTED_YET, message)
    if report.refusals:
        found = _found(report.first, report.refusals)
        message = f"data plane {view.plane} serves nothing: {found}"
        return Wanted(kind, "False", Reason.FINDINGS, message)
    if report.is_stale:
        message = (
            f"data plane {view.plane} has not reported for more than two intervals of "
            f"{report.interval_seconds:g} s: see that it runs and reaches the control plane"
        )
        return Wanted(kind, "Unknown", Reason.STALE, message)
    return Wanted(kind, "True", Reason.VERIFIED, _verified(view.plane, report))


def _verified(plane: str, report: IsolationView) -> str:
    message = f"data plane {plane} has checked its database: nothing is refused"
    if report.warnings:
        message += f"; warnings: {_found(report.first, report.warnings)}"
    return message


def _found(first: IsolationFinding | None, count: int) -> str:
    named = f"{first.subject} {first.message}" if first else "see its log"
    return f"{named} (and {count - 1} more)" if count > 1 else named


def _ready(view: TenantView, isolation: Wanted) -> Wanted:
    kind = ConditionType.READY
    if view.status == "suspended":
        message = "suspended: set spec.suspended to false"
        return Wanted(kind, "False", Reason.SUSPENDED, message)
    if isolation.status == "False":
        return Wanted(kind, "False", isolation.reason, isolation.message)
    return Wanted(kind, "True", Reason.SERVING, f"served at {view.endpoint}")


def of_error(error: TenantplaneError) -> Verdict:
    """The registry refused, or could not be asked; what it held before stays in force."""
    reason = _REASONS.get(error.error_code, Reason.INVALID)
    if error.retryable:
        # Planes go on serving: Ready keeps what it said, only our own knowledge is in doubt.
        unknown = Wanted(
            ConditionType.REGISTERED, "Unknown", Reason.CONTROL_PLANE_UNAVAILABLE, message_of(error)
        )
        return Verdict((*_own_isolation(error), unknown), again=True)
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


def _own_isolation(error: TenantplaneError) -> tuple[Wanted, ...]:
    """The control plane's own database is checked as a data plane's is."""
    if error.error_code != ISOLATION_NOT_VERIFIED:
        return ()
    message = f"control plane: {message_of(error)}"
    return (Wanted(ConditionType.ISOLATION_VERIFIED, "False", Reason.FINDINGS, message),)


def _not_serving(known: tuple[Wanted, ...], reason: Reason, message: str) -> tuple[Wanted, ...]:
    return (
        *known,
        Wanted(ConditionType.DATA_PLANE_READY, "False", reason, message),
        Wanted(ConditionType.READY, "False", reason, message),
    )
