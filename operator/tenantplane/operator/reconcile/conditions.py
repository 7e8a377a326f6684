"""Conditions of an object: pure merging, so that a status is written only where it changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tenantplane.core.apis.conditions import ConditionType, Reason

Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A condition as this reconcile sees it."""

    type: ConditionType
    status: Status
    reason: Reason
    message: str = ""


def merged(
    existing: Sequence[Mapping[str, Any]], wanted: Iterable[Wanted], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """`existing` with `wanted` in place; lastTransitionTime moves only where status changes."""
    known = {str(condition["type"]): dict(condition) for condition in existing}
    for want in wanted:
        before = known.get(want.type, {})
        moved = before.get("status") != want.status
        known[want.type] = {
            "type": str(want.type),
            "status": want.status,
            "reason": str(want.reason),
            "message": want.message,
            "observedGeneration": generation,
            "lastTransitionTime": _timestamp(now) if moved else before["lastTransitionTime"],
        }
    return [known[kind] for kind in sorted(known)]


def transitions(existing: Sequence[Mapping[str, Any]], wanted: Iterable[Wanted]) -> list[Wanted]:
    """Those of `wanted` whose status or reason is new: each is worth an event."""
    before = {str(c["type"]): (c.get("status"), c.get("reason")) for c in existing}
    return [w for w in wanted if before.get(w.type) != (w.status, str(w.reason))]


def _timestamp(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
