from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tenantplane.controlplane.planes import snapshots
from tenantplane.controlplane.planes.snapshots import OrgTerms, Status
from tenantplane.core.apis.limits import Limits
from tenantplane.core.apis.plan import ModelOffer, Prices, ToolPrice
from tenantplane.core.apis.snapshot import ApiKeyGrant, CapRaise, PromptGrant, RoleBound

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
    prices=Prices(models=(OFFER,)),
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


def test_limits_of_all_holders_are_carried() -> None:
    limits = Limits.model_validate(
        {
            "hardCapUSD": "9",
            "softCapUSDPerDay": "1",
            "hardCapUSDPerDay": "2",
            "concurrentCalls": 8,
            "shadow": True,
            "perUser": {"requestsPerMinute": 3, "hardCapUSDPerDay": "0.5"},
            "perKey": {"tokensPerMinute": 4},
            "perRun": {"steps": 5, "seconds": 6, "costUSD": "0.25"},
            "onProviderExcess": "continue",
        }
    )
    built = snapshots.build([replace(ORG, limits=limits)], [])
    (level,) = built.levels
    assert (level.hard_cap_nanousd, level.soft_cap_nanousd) == (9_000_000_000, None)
    assert (level.day_soft_cap_nanousd, level.day_hard_cap_nanousd) == (10**9, 2 * 10**9)
    assert (level.concurrent_calls, level.shadow) == (8, True)
    assert built.per_user is not None
    assert built.per_user.requests_per_minute == 3
    assert (built.per_user.day_hard_cap_nanousd, built.per_user.shadow) == (500_000_000, False)
    assert built.per_key is not None
    assert built.per_key.tokens_per_minute == 4
    assert built.per_run is not None
    assert built.per_run.model_dump() == {"steps": 5, "seconds": 6, "cost_nanousd": 250_000_000}
    assert built.on_provider_excess == "continue"


def test_without_limits_of_users_keys_and_runs_there_are_none() -> None:
    built = snapshots.build([ORG], [])
    assert (built.per_user, built.per_key, built.per_run) == (None, None, None)
    assert built.on_provider_excess == "halt"


def test_raises_stand_on_their_level_wherever_it_is() -> None:
    raised = CapRaise(
        raise_id="r1", period="day", extra_nanousd=5, begins_at=NOW, ends_at=NOW + timedelta(1)
    )
    above = replace(UMBRELLA, raises=(raised,))
    levels = snapshots.build([above, ORG], []).levels
    assert [level.raises for level in levels] == [(raised,), ()]


def test_prices_of_all_sorts_are_carried() -> None:
    offer = OFFER.model_copy(
        update={
            "cached_input_usd_per_million_tokens": "0.075",
            "reasoning_usd_per_million_tokens": "1.2",
            "image_usd": "0.002",
            "fallbacks": ("second", "not-granted"),
        }
    )
    second = OFFER.model_copy(update={"name": "second"})
    third = OFFER.model_copy(update={"name": "not-granted"})
    tools = (ToolPrice(name="clock", usd_per_call="0.01"), ToolPrice(name="x", usd_per_call="1"))
    org = replace(
        ORG,
        models=("assistant-1", "second"),
        prices=Prices(models=(offer, second, third), tools=tools),
    )
    built = snapshots.build([org], [])
    grant = built.model_grant("assistant-1")
    assert grant is not None
    assert (grant.cached_input_nanousd_per_token, grant.reasoning_nanousd_per_token) == (75, 1200)
    assert grant.image_nanousd == 2_000_000
    # Only what is granted itself.
    assert grant.fallbacks == ("second",)
    assert built.tool_nanousd == {"clock": 10_000_000}


def test_an_embedding_model_is_granted_with_its_dimensions_and_without_output() -> None:
    offer = ModelOffer(
        name="embed-local",
        kind="embedding",
        dimensions=384,
        provider="builtin",
        upstream_model="hashing-384",
        input_usd_per_million_tokens="0",
    )
    org = replace(ORG, models=("embed-local",), prices=Prices(models=(offer,)))
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
    org = replace(
        ORG,
        status="deleted",
        prompts=(PromptGrant(name="p", version=1, text="secret"),),
        role_bound=(RoleBound(kind="tool", name="clock", roles=("admin",)),),
        prices=Prices(models=(OFFER,), tools=(ToolPrice(name="clock", usd_per_call="1"),)),
    )
    built = snapshots.build([org], KEYS)
    assert (built.tools, built.models, built.data_sources) == ((), (), ())
    assert (built.prompts, built.role_bound, built.tool_nanousd) == ((), (), {})
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
        replace(ORG, prompts=(PromptGrant(name="p", version=1, text="t"),)),
        replace(ORG, role_bound=(RoleBound(kind="tool", name="clock", roles=("admin",)),)),
        replace(ORG, excess_acknowledged_until=NOW),
    ):
        assert snapshots.digest(built) != snapshots.digest(snapshots.build([changed], KEYS))


def test_version_and_time_are_the_signers() -> None:
    payload = snapshots.versioned(snapshots.build([ORG], []), 7, NOW)
    assert (payload["version"], payload["issued_at"]) == (7, "2026-01-01T00:00:00Z")
