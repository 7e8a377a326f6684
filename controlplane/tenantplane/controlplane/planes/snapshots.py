"""What a plane needs to serve one org, as a pure function of the org's line from its root."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tenantplane.core.apis.limits import Limits
from tenantplane.core.apis.plan import ModelOffer
from tenantplane.core.apis.snapshot import ApiKeyGrant, Level, ModelGrant, Snapshot
from tenantplane.core.money import parse_usd, price_per_token

Status = Literal["active", "suspended", "deleted"]

_UNVERSIONED = {"version", "issued_at"}
_NO_TIME = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class OrgTerms:
    """One org of a line: what it is, what it may use, and its limits over its plan's."""

    org_id: str
    root_org_id: str
    status: Status
    plane: str | None
    region: str
    plan: str
    price_book_version: int
    time_zone: str
    max_offline_seconds: int
    token_epoch: int
    limits: Limits
    tools: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    data_sources: tuple[str, ...] = ()
    offers: tuple[ModelOffer, ...] = ()


def build(line: Sequence[OrgTerms], keys: Sequence[ApiKeyGrant]) -> Snapshot:
    """The snapshot of the last org of `line` (root first), as version 1 of no time: whoever signs
    it gives it both. The org has a plane."""
    org = line[-1]
    assert org.plane is not None
    status = _effective_status(line)
    gone = status == "deleted"
    return Snapshot(
        org_id=org.org_id,
        root_org_id=org.root_org_id,
        version=1,
        issued_at=_NO_TIME,
        status=status,
        plane=org.plane,
        region=org.region,
        plan=org.plan,
        token_epoch=org.token_epoch,
        max_offline_seconds=org.max_offline_seconds,
        price_book_version=org.price_book_version,
        levels=tuple(_level(member) for member in line),
        tools=() if gone else org.tools,
        models=() if gone else _grants(org),
        data_sources=() if gone else org.data_sources,
        api_keys=() if gone else tuple(sorted(keys, key=lambda key: key.key_id)),
    )


def digest(snapshot: Snapshot) -> bytes:
    """SHA-256 of what the snapshot says, whatever its version: equal where nothing changed."""
    content = snapshot.model_dump(mode="json", exclude=_UNVERSIONED)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()


def versioned(snapshot: Snapshot, version: int, issued_at: datetime) -> dict[str, Any]:
    """The payload to sign."""
    return snapshot.model_copy(update={"version": version, "issued_at": issued_at}).model_dump(
        mode="json"
    )


def _effective_status(line: Sequence[OrgTerms]) -> Status:
    # An umbrella that is suspended stops its whole tree, on every plane, by each org's snapshot.
    own = line[-1].status
    if own == "active" and any(member.status != "active" for member in line):
        return "suspended"
    return own


def _level(org: OrgTerms) -> Level:
    limits = org.limits
    return Level(
        # An org is one level in its own snapshot and in those of its children. If its kind said
        # "umbrella" there and "org" here, its money would be counted in two accounts.
        kind="org",
        id=org.org_id,
        time_zone=org.time_zone,
        suspended=org.status != "active",
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
        soft_cap_nanousd=_nano(limits.soft_cap_usd),
        hard_cap_nanousd=_nano(limits.hard_cap_usd),
    )


def _nano(usd: str | None) -> int | None:
    return None if usd is None else parse_usd(usd)


def _grants(org: OrgTerms) -> tuple[ModelGrant, ...]:
    # A model without an offer has no price, and what has no price is not granted.
    offers = {offer.name: offer for offer in org.offers}
    return tuple(_grant(offers[name]) for name in org.models if name in offers)


def _grant(offer: ModelOffer) -> ModelGrant:
    is_embedding = offer.kind == "embedding"
    return ModelGrant(
        name=offer.name,
        kind=offer.kind,
        dimensions=offer.dimensions,
        provider=offer.provider,
        upstream_model=offer.upstream_model or offer.name,
        input_nanousd_per_token=price_per_token(offer.input_usd_per_million_tokens),
        output_nanousd_per_token=price_per_token(offer.output_usd_per_million_tokens or "0"),
        # An embedding call has no output: what it is held for is its prompt, and the least that a
        # grant can say besides.
        max_output_tokens=1 if is_embedding else offer.max_output_tokens,
        context_tokens=offer.context_tokens,
    )
