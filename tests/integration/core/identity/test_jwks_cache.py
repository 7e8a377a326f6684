"""The JWKS cache against a real issuer over HTTP: floods, rotations, outages, garbage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tenantplane.core.errors import DependencyUnavailable, Unauthenticated
from tenantplane.core.identity.jwks import JwksCache, JwksSettings
from tests.fixtures.oidc import DISCOVERY, JWKS, Mode, OidcIssuer

COOL_DOWN = 30
REFRESH = 300
MAX_AGE = 3600


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def cache(clock: Clock) -> AsyncIterator[JwksCache]:
    settings = JwksSettings(
        cool_down_seconds=COOL_DOWN,
        refresh_after_seconds=REFRESH,
        max_age_seconds=MAX_AGE,
        fetch_timeout_seconds=5,
    )
    cache = JwksCache(settings, clock=clock)
    yield cache
    await cache.aclose()


async def test_a_known_key_is_fetched_once(cache: JwksCache, oidc_issuer: OidcIssuer) -> None:
    for _ in range(5):
        (key,) = await cache.find(oidc_issuer.issuer, oidc_issuer.key.kid, "RS256")
        assert key.kid == oidc_issuer.key.kid
    assert oidc_issuer.hits == {DISCOVERY: 1, JWKS: 1}
    assert cache.generation(oidc_issuer.issuer) == 1


async def test_a_flood_of_unknown_kids_costs_one_refresh_per_cool_down(
    cache: JwksCache, clock: Clock, oidc_issuer: OidcIssuer
) -> None:
    async def flood(wave: int) -> None:
        asked = (cache.find(oidc_issuer.issuer, f"random-{wave}-{n}", "RS256") for n in range(200))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(a, Unauthenticated) for a in answers)
        assert {a.error_code for a in answers if isinstance(a, Unauthenticated)} == {"unknown_key"}

    await flood(0)
    await flood(1)
    assert oidc_issuer.hits[JWKS] == 1
    clock.seconds += COOL_DOWN
    await flood(2)
    await flood(3)
    assert oidc_issuer.hits[JWKS] == 2
    # A good key is served all the while.
    assert await cache.find(oidc_issuer.issuer, oidc_issuer.key.kid, "RS256")
    assert oidc_issuer.hits[JWKS] == 2


async def test_one_issuers_cool_down_is_not_anothers(
    cache: JwksCache, oidc_issuer: OidcIssuer
) -> None:
    other = OidcIssuer("ES256")
    try:
        with pytest.raises(Unauthenticated):
            await cache.find(oidc_issuer.issuer, "unknown", "RS256")
        assert await cache.find(other.issuer, other.key.kid, "ES256")
    finally:
        other.stop()


async def test_a_rotated_key_is_found_and_a_revoked_one_dies(
    cache: JwksCache, clock: Clock, oidc_issuer: OidcIssuer
) -> None:
    old = oidc_issuer.key.kid
    await cache.find(oidc_issuer.issuer, old, "RS256")
    new = oidc_issuer.rotate().kid
    clock.seconds += COOL_DOWN
    assert await cache.find(oidc_issuer.issuer, new, "RS256")
    assert cache.generation(oidc_issuer.issuer) == 2
    with pytest.raises(Unauthenticated):
        await cache.find(oidc_issuer.issuer, old, "RS256")


async def test_a_revoked_key_dies_with_no_unknown_kid_to_show_it(
    cache: JwksCache, clock: Clock, oidc_issuer: OidcIssuer
) -> None:
    old = oidc_issuer.key.kid
    await cache.find(oidc_issuer.issuer, old, "RS256")
    oidc_issuer.rotate()
    clock.seconds += REFRESH
    with pytest.raises(Unauthenticated):
        await cache.find(oidc_issuer.issuer, old, "RS256")


@pytest.mark.parametrize(
    "mode", ["error", "garbage", "huge", "redirect", "compressed", "other_issuer", "no_keys"]
)
async def test_a_bad_answer_never_erases_good_keys(
    cache: JwksCache, clock: Clock, oidc_issuer: OidcIssuer, mode: Mode
) -> None:
    kid = oidc_issuer.key.kid
    await cache.find(oidc_issuer.issuer, kid, "RS256")
    oidc_issuer.mode = mode
    clock.seconds += MAX_AGE - 1
    assert await cache.find(oidc_issuer.issuer, kid, "RS256")
    assert oidc_issuer.hits[DISCOVERY] == 2, "the refresh was tried"
    assert oidc_issuer.hits["/elsewhere"] == 0, "no redirect is followed"
    clock.seconds += 2
    with pytest.raises(DependencyUnavailable) as refused:
        await cache.find(oidc_issuer.issuer, kid, "RS256")
    assert refused.value.status == 503
    assert refused.value.retry_after_seconds == COOL_DOWN - 2

    oidc_issuer.mode = "well"
    clock.seconds += COOL_DOWN
    assert await cache.find(oidc_issuer.issuer, kid, "RS256")


async def test_an_issuer_that_is_down(
    cache: JwksCache, clock: Clock, oidc_issuer: OidcIssuer
) -> None:
    kid = oidc_issuer.key.kid
    oidc_issuer.stop()
    with pytest.raises(DependencyUnavailable, match=oidc_issuer.issuer):
        await cache.find(oidc_issuer.issuer, kid, "RS256")
    oidc_issuer.start()
    with pytest.raises(DependencyUnavailable):
        await cache.find(oidc_issuer.issuer, kid, "RS256")
    assert oidc_issuer.hits[DISCOVERY] == 0, "the cool-down holds for failures too"
    clock.seconds += COOL_DOWN
    assert await cache.find(oidc_issuer.issuer, kid, "RS256")

    oidc_issuer.stop()
    clock.seconds += REFRESH
    assert await cache.find(oidc_issuer.issuer, kid, "RS256")
    with pytest.raises(DependencyUnavailable):  # it cannot be known whether the kid is good
        await cache.find(oidc_issuer.issuer, "new", "RS256")
    clock.seconds += MAX_AGE - REFRESH
    with pytest.raises(DependencyUnavailable):
        await cache.find(oidc_issuer.issuer, kid, "RS256")


@pytest.mark.parametrize("mode", ["slow", "drip"])
async def test_a_silent_or_dripping_issuer_is_bounded_by_the_time_out(
    oidc_issuer: OidcIssuer, mode: Mode
) -> None:
    oidc_issuer.mode = mode
    cache = JwksCache(JwksSettings(fetch_timeout_seconds=0.1))
    async with asyncio.timeout(20):  # a cache that waits for ever fails here, and does not hang
        with pytest.raises(DependencyUnavailable, match="in time"):
            await cache.find(oidc_issuer.issuer, "any", "RS256")
    await cache.aclose()


async def test_a_caller_that_goes_away_takes_nothing_from_the_others(
    cache: JwksCache, oidc_issuer: OidcIssuer
) -> None:
    oidc_issuer.mode = "slow"
    kid = oidc_issuer.key.kid
    first = asyncio.create_task(cache.find(oidc_issuer.issuer, kid, "RS256"))
    second = asyncio.create_task(cache.find(oidc_issuer.issuer, kid, "RS256"))
    await asyncio.sleep(0)  # both run up to the shared fetch
    first.cancel()
    oidc_issuer.release.set()
    assert await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert oidc_issuer.hits == {DISCOVERY: 1, JWKS: 1}


async def test_plain_http_is_refused_beyond_loopback(cache: JwksCache) -> None:
    with pytest.raises(DependencyUnavailable, match="not https"):
        await cache.find("http://issuer.example", "any", "RS256")


async def test_discovery_cannot_point_to_plain_http_beyond_loopback(
    cache: JwksCache, oidc_issuer: OidcIssuer
) -> None:
    oidc_issuer.jwks_uri = "http://169.254.169.254/jwks.json"
    with pytest.raises(DependencyUnavailable, match="not https"):
        await cache.find(oidc_issuer.issuer, "any", "RS256")


async def test_a_forgotten_issuer_is_fetched_anew(
    cache: JwksCache, oidc_issuer: OidcIssuer
) -> None:
    kid = oidc_issuer.key.kid
    await cache.find(oidc_issuer.issuer, kid, "RS256")
    cache.forget(oidc_issuer.issuer)
    assert cache.generation(oidc_issuer.issuer) == 0
    assert await cache.find(oidc_issuer.issuer, kid, "RS256")
    assert oidc_issuer.hits[JWKS] == 2
