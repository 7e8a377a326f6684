"""A cached token ends with its expiry, with the key set, or when others need the room."""

from __future__ import annotations

from tenantplane.core.identity.claims import AUDIENCE_DATA_PLANE, AccessClaims
from tenantplane.dataplane.gate.token_cache import TokenCache


def claims(exp: int = 100) -> AccessClaims:
    return AccessClaims(
        iss="https://cp.example",
        aud=AUDIENCE_DATA_PLANE,
        sub="alice",
        exp=exp,
        iat=1,
        jti="j",
        org_id="acme",
        root_org_id="acme",
        plan="starter",
        region="local",
        plane="p1",
        epoch=0,
    )


def test_until_it_expires() -> None:
    cache = TokenCache()
    cache.put("token", claims(100), generation=1)
    assert cache.get("token", generation=1, now_unix=99.9) == claims(100)
    assert cache.get("token", generation=1, now_unix=100) is None
    assert len(cache) == 0


def test_under_one_generation_of_keys() -> None:
    cache = TokenCache()
    cache.put("token", claims(), generation=1)
    assert cache.get("token", generation=2, now_unix=1) is None
    assert cache.get("token", generation=1, now_unix=1) is None


def test_the_least_recently_used_goes_first() -> None:
    cache = TokenCache(capacity=2)
    cache.put("a", claims(), generation=1)
    cache.put("b", claims(), generation=1)
    cache.get("a", generation=1, now_unix=1)
    cache.put("c", claims(), generation=1)
    assert cache.get("b", generation=1, now_unix=1) is None
    assert cache.get("a", generation=1, now_unix=1)
    assert len(cache) == 2
