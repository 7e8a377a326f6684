"""What the gate hands inward with each request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.ids import new_id
from tenantplane.core.telemetry.attributes import ORG_ID, USER_ID
from tenantplane.core.tenancy import TenantContext

STATE_KEY = "tenant"
_RUN_KEY = "run_id"


@dataclass(frozen=True, slots=True)
class RequestTenant:
    """The verified caller and the snapshot its request is served by, from start to end.

    The snapshot is the one that was in force when the request came: models, tools and prices of a
    request are never half of an old and half of a new entitlement. Whether it may go on at all,
    and under which limits, `standing` answers anew before each call (Entitlements.standing).
    """

    context: TenantContext
    snapshot: Snapshot
    standing: Callable[[], Snapshot]
    # Whom the lines of the log are about.
    subject: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        subject = {ORG_ID: self.context.org_id, USER_ID: self.context.user_id}
        object.__setattr__(self, "subject", subject)


def place_tenant(scope: MutableMapping[str, Any], tenant: RequestTenant) -> None:
    scope.setdefault("state", {})[STATE_KEY] = tenant


def request_tenant(scope: MutableMapping[str, Any]) -> RequestTenant:
    """The tenant of an ASGI scope. Raises LookupError where the gate has not passed it.

    That is a fault of wiring, never of the caller: nothing behind the gate is served without it.
    """
    state = scope.get("state", {})
    if STATE_KEY not in state:
        raise LookupError("the gate has not set a tenant on this request")
    return cast("RequestTenant", state[STATE_KEY])


def place_run_id(scope: MutableMapping[str, Any], run_id: UUID) -> None:
    scope.setdefault("state", {})[_RUN_KEY] = run_id


def request_run_id(scope: MutableMapping[str, Any]) -> UUID:
    """The run of this request: the one that its Idempotency-Key was claimed by, else a new one."""
    return cast("UUID", scope.get("state", {}).get(_RUN_KEY)) or new_id()
