"""What the registry refuses, and why: pure functions of what is stored and what is wanted.

A tenant has one writer; what an older generation of its object says is the past (F52).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tenantplane.core.apis.plan import PlanSpec
from tenantplane.core.apis.registry import GENERATION_HEADER, TAKE_OVER_HEADER, WRITER_HEADER
from tenantplane.core.apis.tenant import TenantSpec
from tenantplane.core.errors import Conflict, FieldError, InvalidInput, NotFound, Unprocessable

MAX_DEPTH: Final = 4
KUBERNETES_WRITER: Final = "kubernetes:"
NAMED_IN_A_MESSAGE: Final = 10

Status = Literal["active", "suspended", "deleted"]
DeletionPolicy = Literal["Retain", "Purge"]


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes. `generation` None (the CLI): every write is newer than the one before it."""

    name: str
    generation: int | None
    take_over: bool = False

    def generation_over(self, known: int) -> int:
        """The generation to store: the writer's own, or one more than `known`."""
        return known + 1 if self.generation is None else self.generation


@dataclass(frozen=True, slots=True)
class Held:
    """The last write to a tenant or plan."""

    what: str  # "tenant 'acme'"
    writer: str
    generation: int
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class ParentOrg:
    """The umbrella as it is now."""

    org_id: str
    path: tuple[str, ...]
    status: Status
    region: str


def writer_from_headers(name: str | None, generation: str | None, take_over: str | None) -> Writer:
    """Raises InvalidInput that lists every bad header."""
    errors = []
    if not name or not (name == "cli" or name.startswith(KUBERNETES_WRITER)) or len(name) > 200:
        errors.append(
            FieldError(WRITER_HEADER, "say who writes: 'cli', or 'kubernetes:<uid of the object>'")
        )
    number = int(generation) if generation and generation.isdecimal() else None
    by_object = bool(name) and str(name).startswith(KUBERNETES_WRITER)
    if (generation is not None and number is None) or (by_object and number is None):
        errors.append(
            FieldError(GENERATION_HEADER, "give metadata.generation of the object, a whole number")
        )
    if take_over not in (None, "true", "false"):
        errors.append(FieldError(TAKE_OVER_HEADER, "is 'true' or 'false'"))
    if errors:
        raise InvalidInput(
            "The request does not say who writes.",
            hint=f"Send the headers {WRITER_HEADER}, {GENERATION_HEADER} and, to take over, "
            f"{TAKE_OVER_HEADER}: true.",
            code="writer_required",
            errors=tuple(errors),
        )
    return Writer(str(name), number, take_over == "true")


def fence(held: Held | None, writer: Writer) -> None:
    """Raises Conflict: `other_writer`, or `stale_generation`."""
    if held is None:
        return
    if held.writer != writer.name:
        if not (writer.take_over or held.deleted):
            raise Conflict(
                f"The {held.what} is written by {held.writer!r}, not by {writer.name!r}.",
                hint=f"Change it there, or take it over with the header {TAKE_OVER_HEADER}: true.",
                code="other_writer",
            )
        return
    if held.deleted and writer.name.startswith(KUBERNETES_WRITER):
        # An object that was deleted never comes back: its successor has another uid.
        raise Conflict(
            f"The {held.what} was deleted together with this object.",
            hint="Create the object anew: its new uid takes the tenant up again.",
            code="stale_generation",
        )
    if writer.generation is not None and writer.generation < held.generation:
        raise Conflict(
            f"Generation {writer.generation} of the {held.what} is the past; "
            f"generation {held.generation} was written already.",
            hint="Read the object again and write what it says now.",
            code="stale_generation",
        )


def refuse_unsupported(spec: TenantSpec) -> None:
    """Raises Unprocessable `not_yet_supported`."""
    if spec.isolation == "dedicated":
        raise Unprocessable(
            "isolation: dedicated is not yet supported.",
            hint="Use isolation: shared.",
            code="not_yet_supported",
            errors=(FieldError("isolation", "'dedicated' is not yet supported: use 'shared'"),),
        )


def refuse_immutable(before: TenantSpec, after: TenantSpec) -> None:
    """Raises Unprocessable `immutable_field` that names each field that may not change."""
    errors = []
    if before.region != after.region:
        errors.append(
            FieldError(
                "region",
                f"is immutable ({before.region!r}): create another tenant there and move its data",
            )
        )
    if before.parent != after.parent:
        errors.append(
            FieldError(
                "parent",
                f"is immutable ({before.parent!r}): create another tenant under the other umbrella",
            )
        )
    if errors:
        names = " and ".join(error.path for error in errors)
        raise Unprocessable(
            f"{names} cannot be changed.",
            hint="Put the field back as it was; the tenant keeps its last good state.",
            code="immutable_field",
            errors=tuple(errors),
        )


def path_under(org_id: str, spec: TenantSpec, parent: ParentOrg | None) -> tuple[str, ...]:
    """The line from the root to a new org. Raises Unprocessable or Conflict about its parent."""
    if spec.parent is None:
        return (org_id,)
    if spec.parent == org_id:
        raise _bad_parent("an org cannot be its own umbrella: remove parent, or name another")
    if parent is None or parent.status == "deleted":
        raise Conflict(
            f"The umbrella {spec.parent!r} is not registered.",
            hint=f"Apply tenant {spec.parent!r} first, or correct parent.",
            code="unknown_parent",
            errors=(FieldError("parent", f"no tenant {spec.parent!r}: apply it first"),),
        )
    if parent.status != "active":
        raise Conflict(
            f"The umbrella {parent.org_id!r} is {parent.status}.",
            hint="Resume it first; a suspended umbrella takes no new orgs.",
            code="parent_not_active",
            errors=(FieldError("parent", f"is {parent.status}: resume it first"),),
        )
    errors = []
    if parent.region != spec.region:
        errors.append(FieldError("region", f"must be the umbrella's, {parent.region!r}"))
    if len(parent.path) >= MAX_DEPTH:
        errors.append(FieldError("parent", f"a tree has at most {MAX_DEPTH} levels"))
    if errors:
        raise Unprocessable(
            f"Tenant {org_id!r} cannot be under {parent.org_id!r}.", errors=tuple(errors)
        )
    return (*parent.path, org_id)


def refuse_unpriced(plan: PlanSpec) -> None:
    """Raises Unprocessable for models that the plan entitles to and does not price."""
    priced = {offer.name for offer in plan.prices.models}
    errors = tuple(
        FieldError(
            f"entitlements.models.{index}",
            f"{name!r} has no price: add it to prices.models, or remove it here",
        )
        for index, name in enumerate(plan.entitlements.models)
        if name not in priced
    )
    names = [offer.name for offer in plan.prices.models]
    errors += tuple(
        FieldError(f"prices.models.{index}.name", f"{name!r} is priced twice: keep one")
        for index, name in enumerate(names)
        if name in names[:index]
    )
    tools = [price.name for price in plan.prices.tools]
    errors += tuple(
        FieldError(f"prices.tools.{index}.name", f"{name!r} is priced twice: keep one")
        for index, name in enumerate(tools)
        if name in tools[:index]
    )
    if errors:
        raise Unprocessable("The plan's models and prices do not agree.", errors=errors)


def refuse_bad_fallbacks(plan: PlanSpec) -> None:
    """Raises Unprocessable for fallbacks that the plan does not sell, or that are of another kind:
    a caller who asked for an answer can do nothing with vectors."""
    kinds = {offer.name: offer.kind for offer in plan.prices.models}
    errors = []
    for index, offer in enumerate(plan.prices.models):
        for at, name in enumerate(offer.fallbacks):
            path = f"prices.models.{index}.fallbacks.{at}"
            if name not in kinds:
                errors.append(FieldError(path, f"{name!r} has no price: add it to prices.models"))
            elif kinds[name] != offer.kind:
                errors.append(FieldError(path, f"{name!r} is of kind {kinds[name]}: name another"))
            elif name in offer.fallbacks[:at]:
                errors.append(FieldError(path, f"{name!r} is named twice: keep one"))
    if errors:
        raise Unprocessable("The plan's models cannot fall back so.", errors=tuple(errors))


def refuse_unpriced_allowance(spec: TenantSpec, plan: PlanSpec) -> None:
    """Raises Unprocessable for models allowed to a tenant that its plan cannot sell."""
    priced = {offer.name for offer in plan.prices.models}
    errors = tuple(
        FieldError(
            f"entitlements.models.allow.{index}",
            f"{name!r} has no price in plan {spec.plan!r}: add it to the plan's prices.models",
        )
        for index, name in enumerate(spec.entitlements.models.allow)
        if name not in priced
    )
    if errors:
        raise Unprocessable("The tenant is allowed models that have no price.", errors=errors)


def unknown_plan(plan: str, known: list[str]) -> Conflict:
    choice = ", ".join(repr(name) for name in known[:NAMED_IN_A_MESSAGE]) or "none is registered"
    return Conflict(
        f"There is no plan {plan!r}.",
        hint=f"Apply the plan first, or choose one of: {choice}.",
        code="unknown_plan",
        errors=(FieldError("plan", f"no plan {plan!r}"),),
    )


def plan_in_use(plan: str, tenants: list[str]) -> Conflict:
    named = ", ".join(tenants[:NAMED_IN_A_MESSAGE])
    more = len(tenants) - NAMED_IN_A_MESSAGE
    rest = f" and {more} more" if more > 0 else ""
    return Conflict(
        f"Plan {plan!r} is in use by {len(tenants)} tenant(s): {named}{rest}.",
        hint="Move them to another plan or delete them, then delete the plan.",
        code="plan_in_use",
        tenants=len(tenants),
    )


def name_was_purged(org_id: str) -> Conflict:
    return Conflict(
        f"The name {org_id!r} belonged to a tenant that was purged, and is never used again.",
        hint="Choose another name.",
        code="org_id_used",
    )


def no_such_tenant(org_id: str) -> NotFound:
    return NotFound(f"There is no tenant {org_id!r}.", hint="Apply its manifest first.")


def next_epoch(epoch: int, before: TenantSpec, after: TenantSpec) -> int:
    """Rises where tokens issued so far must die: on suspension, and when an issuer goes."""
    suspended = after.suspended and not before.suspended
    lost_issuer = bool(set(before.identity.issuers) - set(after.identity.issuers))
    return epoch + 1 if suspended or lost_issuer else epoch


def status_of(spec: TenantSpec) -> Status:
    return "suspended" if spec.suspended else "active"


def _bad_parent(message: str) -> Unprocessable:
    return Unprocessable("The parent cannot be.", errors=(FieldError("parent", message),))
