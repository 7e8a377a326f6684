from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tenantplane.controlplane.planes import snapshots
from tenantplane.controlplane.planes.snapshots import OrgTerms, Status
from tenantplane.core.apis.limits import Limits
from tenantplane.core.apis.plan import ModelOffer
from tenantplane.core.apis.snapshot import ApiKeyGrant

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OFFER = ModelOffer(
    name="assistant-1",
    upstream_model="gpt-x",
    input_usd_per_million_tokens="0.15",
    output_usd_per_million_tokens="0.60",
)
ORG = OrgTerms(
    org_id="acme",
    root_org_id="umbrella",
    status="active",
    plane="shared-1",
    region="local",
    plan="gold",
    price_book_version=3,
    time_zone="UTC",
    max_offline_seconds=3600,
    token_epoch=1,
    limits=Limits(hard_cap_usd="1"),
    tools=("clock",),
    data_sources=("documents",),
    models=("assistant-1", "unpriced"),
    offers=(OFFER,),
)
UMBRELLA = replace(ORG, org_id="umbrella", limits=Limits(hard_cap_usd="9", soft_cap_usd="8"))
KEYS = [
    ApiKeyGrant(key_id=key_id, sha256_hex="ab" * 32, user_id="robot") for key_id in ("k2", "k1")
]


def test_levels_run_from_the_root() -> None:
    built = snapshots.build([UMBRELLA, ORG], KEYS)
    assert [(level.id, level.hard_cap_nanousd) for level in built.levels] == [
        ("umbrella", 9_000_000_000),
        ("acme", 1_000_000_000),
    ]
    assert (built.org_id, built.root_org_id) == ("acme", "umbrella")


def test_an_org_is_one_account_wherever_it_stands_in_the_line() -> None:
    own = snapshots.build([UMBRELLA], []).levels[0]
    above = snapshots.build([UMBRELLA, ORG], []).levels[0]
    assert (own.kind, own.id) == (above.kind, above.id)


def test_what_has_no_price_is_not_granted() -> None:
    (grant,) = snapshots.build([ORG], []).models
    assert (grant.name, grant.upstream_model) == ("assistant-1", "gpt-x")
    assert (grant.input_nanousd_per_token, grant.output_nanousd_per_token) == (150, 600)


def test_an_embedding_model_is_granted_with_its_dimensions_and_without_output() -> None:
    offer = ModelOffer(
        name="embed-local",
        kind="embedding",
        dimensions=384,
        provider="builtin",
        upstream_model="hashing-384",
        input_usd_per_million_tokens="0",
    )
    org = replace(ORG, models=("embed-local",), offers=(offer,))
    (grant,) = snapshots.build([org], []).models
    assert (grant.kind, grant.dimensions, grant.provider) == ("embedding", 384, "builtin")
    assert (grant.input_nanousd_per_token, grant.output_nanousd_per_token) == (0, 0)
    assert grant.max_output_tokens == 1


def test_data_sources_are_those_of_the_org_alone() -> None:
    above = replace(UMBRELLA, data_sources=("usage",))
    assert snapshots.build([above, ORG], []).data_sources == ("documents",)
    assert snapshots.build([above, replace(ORG, data_sources=())], []).data_sources == ()


@pytest.mark.parametrize(
    ("above", "own", "effective"),
    [
        ("active", "active", "active"),
        ("suspended", "active", "suspended"),
        ("deleted", "active", "suspended"),
        ("active", "suspended", "suspended"),
        ("suspended", "deleted", "deleted"),
    ],
)
def test_an_umbrella_stops_its_tree(above: Status, own: Status, effective: Status) -> None:
    line = [replace(UMBRELLA, status=above), replace(ORG, status=own)]
    assert snapshots.build(line, []).status == effective


def test_a_tombstone_grants_nothing() -> None:
    built = snapshots.build([replace(ORG, status="deleted")], KEYS)
    assert (built.tools, built.models, built.data_sources) == ((), (), ())
    assert built.api_keys == ()


def test_the_digest_is_of_what_is_said_alone() -> None:
    built = snapshots.build([ORG], KEYS)
    later = built.model_copy(update={"version": 9, "issued_at": NOW + timedelta(days=1)})
    assert snapshots.digest(built) == snapshots.digest(later)
    assert snapshots.digest(built) == snapshots.digest(snapshots.build([ORG], KEYS[::-1]))
    for changed in (
        replace(ORG, token_epoch=2),
        replace(ORG, tools=()),
        replace(ORG, data_sources=()),
        replace(ORG, price_book_version=4),
        replace(ORG, limits=Limits()),
    ):
        assert snapshots.digest(built) != snapshots.digest(snapshots.build([changed], KEYS))


def test_version_and_time_are_the_signers() -> None:
    payload = snapshots.versioned(snapshots.build([ORG], []), 7, NOW)
    assert (payload["version"], payload["issued_at"]) == (7, "2026-01-01T00:00:00Z")
