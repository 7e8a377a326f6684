"""Condition types and reasons of Tenant and Plan status."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from tenantplane.core.apis.common import Model


class ConditionType(StrEnum):
    READY = "Ready"
    REGISTERED = "Registered"
    DATA_PLANE_READY = "DataPlaneReady"
    ISOLATION_VERIFIED = "IsolationVerified"


class Reason(StrEnum):
    REGISTERED = "Registered"
    SERVING = "Serving"
    SUSPENDED = "Suspended"
    PROGRESSING = "Progressing"
    WAITING_FOR_PLANE = "WaitingForPlane"
    UNKNOWN_PLAN = "UnknownPlan"
    PLAN_IN_USE = "PlanInUse"
    INVALID = "Invalid"
    CONFLICT = "Conflict"
    CONTROL_PLANE_UNAVAILABLE = "ControlPlaneUnavailable"
    NOT_YET_SUPPORTED = "NotYetSupported"
    ACCEPTED = "Accepted"
    # Of IsolationVerified.
    VERIFIED = "Verified"
    FINDINGS = "Findings"
    NOT_REPORTED_YET = "NotReportedYet"
    STALE = "Stale"


class Condition(Model):
    """As Kubernetes has it (KEP-1623)."""

    type: str = Field(max_length=316, description="What the condition is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(min_length=1, max_length=1024, description="Why, in one CamelCase word.")
    message: str = Field(
        default="", max_length=32768, description="Why, and what to do, for people."
    )
    last_transition_time: datetime = Field(description="When status last changed.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation of the object that this was said of."
    )


class TenantStatus(Model):
    """What is seen of a tenant."""

    observed_generation: int | None = Field(default=None, description="Generation last reconciled.")
    plane: str | None = Field(default=None, description="Data plane that serves the tenant.")
    endpoint: str | None = Field(default=None, description="Base URL of that data plane.")
    entitlements_version: int | None = Field(
        default=None, description="Version of the signed snapshot."
    )
    token_epoch: int | None = Field(
        default=None, description="Tokens issued under an older epoch are refused."
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Conditions, one per type.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class PlanStatus(Model):
    """What is seen of a plan."""

    observed_generation: int | None = Field(default=None, description="Generation last reconciled.")
    tenants: int | None = Field(default=None, description="How many tenants have the plan.")
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Conditions, one per type.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
