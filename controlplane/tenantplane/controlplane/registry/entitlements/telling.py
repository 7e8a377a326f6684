"""An explanation in words: which rows, and what to change. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from tenantplane.core.apis.access import RowView
from tenantplane.core.apis.catalogue import Kind
from tenantplane.core.entitlements import Explanation, Row, Why, base_name

_FIELDS: Final[dict[Kind, str]] = {
    "tool": "tools",
    "model": "models",
    "prompt": "prompts",
    "data_source": "dataSources",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked: may a holder of `roles` (None: not known) in `org_id` use this?"""

    org_id: str
    plan: str
    kind: Kind
    name: str
    roles: Collection[str] | None

    @property
    def thing(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.name!r}"


def tell_row(asked: Asked, row: Row) -> RowView:
    field = _FIELDS[asked.kind]
    where = {"allow": f"{field}.allow", "deny": f"{field}.deny", "role_bound": "roleBound"}
    if row.source == "plan":
        where["allow"] = field
    owner = f"plan {asked.plan!r}" if row.source == "plan" else f"tenant {asked.org_id!r}"
    return RowView(
        where=f"{owner}: entitlements.{where[row.effect]}",
        effect=row.effect,
        name=row.name,
        roles=row.roles,
    )


def tell(asked: Asked, found: Explanation, known: Collection[str]) -> tuple[str, str | None]:
    """Message and hint. `known` are names of the kind that could have been meant."""
    field = _FIELDS[asked.kind]
    places = "; ".join(tell_row(asked, row).where for row in found.rows)
    needed = ", ".join(sorted({role for row in found.rows for role in row.roles}))
    told: dict[Why, tuple[str, str | None]] = {
        Why.GRANTED: (f"The {asked.thing} is allowed by {places}.", None),
        Why.NOT_IN_PLAN: (
            f"The {asked.thing} is neither on the list of plan {asked.plan!r} nor on the tenant's "
            "own.",
            _meant(asked.name, known)
            or f"Add it to entitlements.{field} of plan {asked.plan!r}, or to "
            f"entitlements.{field}.allow of tenant {asked.org_id!r}.",
        ),
        Why.DENIED: (
            f"The {asked.thing} is denied by {places}; a denial always wins.",
            "Remove it there.",
        ),
        Why.NO_PRICE: (
            f"The {asked.thing} is listed by {places}, and has no price.",
            f"Add it to prices.models of plan {asked.plan!r}.",
        ),
        Why.PROMPT_WITHOUT_VERSION: (
            f"The {asked.thing} is listed by {places}, and the catalogue has no such version in "
            "force.",
            f"Put one: tenantplane prompts put {base_name(asked.name)} -f FILE",
        ),
        Why.ROLE_MISSING: (
            f"The {asked.thing} is for holders of {needed} ({places}); the roles here: "
            f"{', '.join(sorted(asked.roles or ())) or 'none'}.",
            "Give the caller such a role, or add a role of theirs there.",
        ),
        Why.ROLE_UNKNOWN: (
            f"The {asked.thing} is for holders of {needed} ({places}); the caller's roles are not "
            "known here.",
            "Name them: --user-roles, or --key for those of an API key.",
        ),
    }
    return told[found.reason]


def _meant(name: str, known: Collection[str]) -> str | None:
    near = get_close_matches(name, sorted(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else None
