"""What was proven of a credential ends with its time, with what it was proven under, or when others
need the room."""

from __future__ import annotations

from tenantplane.dataplane.gate.token_cache import TokenCache, cache_key


def test_until_it_expires() -> None:
    cache: TokenCache[str] = TokenCache()
    cache.put(b"token", "alice", under=1, ends_unix=100, now_unix=1)
    assert cache.get(b"token", under=1, now_unix=99.9) == "alice"
    assert cache.get(b"token", under=1, now_unix=100) is None
    assert len(cache) == 0


def test_under_what_it_was_proven() -> None:
    cache: TokenCache[str] = TokenCache()
    cache.put(b"token", "alice", under=1, ends_unix=100, now_unix=1)
    assert cache.get(b"token", under=2, now_unix=1) is None
    assert cache.get(b"token", under=1, now_unix=1) is None


def test_the_least_recently_used_goes_first() -> None:
    cache: TokenCache[str] = TokenCache(capacity=2)
    for name in (b"a", b"b"):
        cache.put(name, "alice", under=1, ends_unix=100, now_unix=1)
    cache.get(b"a", under=1, now_unix=1)
    cache.put(b"c", "alice", under=1, ends_unix=100, now_unix=1)
    assert cache.get(b"b", under=1, now_unix=1) is None
    assert cache.get(b"a", under=1, now_unix=1)
    assert len(cache) == 2


def test_what_has_ended_goes_when_something_new_comes() -> None:
    cache: TokenCache[str] = TokenCache()
    for number in range(5):
        cache.put(bytes([number]), "alice", under=1, ends_unix=100, now_unix=1)
    cache.put(b"new", "alice", under=1, ends_unix=200, now_unix=100)
    assert len(cache) == 1


def test_a_credential_is_known_in_its_own_field_alone() -> None:
    assert cache_key((b"authorization", b"Bearer a")) != cache_key((b"x-api-key", b"Bearer a"))
