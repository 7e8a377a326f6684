"""Unknown kids cause few fetches (F6), failed ones lose no keys (F7), a rotation is noticed (F8)."""

from __future__ import annotations

import asyncio

import pytest

from tenantplane.core.errors import DependencyUnavailable, Unauthenticated
from tenantplane.core.identity.keyset import KeySet
from tenantplane.core.keys.signing import SigningKey
from tenantplane.dataplane.gate.trust import Jwks, TrustedKeys

OLD, NEW, STRANGER = (SigningKey.generate() for _ in range(3))


class Publisher:
    """The control plane's JWKS endpoint."""

    def __init__(self, *keys: SigningKey) -> None:
        self.jwks: Jwks = {"keys": [key.public_jwk() for key in keys]}
        self.fetches = 0
        self.down = False

    async def fetch(self) -> Jwks:
        self.fetches += 1
        await asyncio.sleep(0)  # others get to run while this one is on its way
        if self.down:
            raise DependencyUnavailable("away")
        return self.jwks


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def trusting(publisher: Publisher, clock: Clock, *known: SigningKey) -> TrustedKeys:
    keys = TrustedKeys(cool_down_seconds=10, elapsed=clock)
    keys.replace({"keys": [key.public_jwk() for key in known]})
    keys.fetch_with(publisher.fetch)
    return keys


async def verify(keys: TrustedKeys, signer: SigningKey) -> dict[str, object]:
    document = signer.sign({"said": 1}, "t+jwt")

    def check(known: KeySet) -> dict[str, object]:
        return known.verify(document, "t+jwt")

    return await keys.verified(check)


async def test_no_keys_is_unavailable_not_refused() -> None:
    with pytest.raises(DependencyUnavailable):
        await verify(TrustedKeys(cool_down_seconds=10), OLD)


async def test_a_new_key_is_fetched_once_for_all_who_wait() -> None:
    publisher = Publisher(OLD, NEW)
    keys = trusting(publisher, Clock(), OLD)
    answers = await asyncio.gather(*(verify(keys, NEW) for _ in range(50)))
    assert answers == [{"said": 1}] * 50
    assert publisher.fetches == 1


async def test_a_flood_of_unknown_kids_fetches_once_a_cool_down() -> None:
    publisher, clock = Publisher(OLD), Clock()
    keys = trusting(publisher, clock, OLD)
    for second in (0, 1, 9.9, 10, 10.5):
        clock.seconds = second
        refused = await asyncio.gather(
            *(verify(keys, STRANGER) for _ in range(20)), return_exceptions=True
        )
        assert all(isinstance(r, Unauthenticated) for r in refused)
    assert publisher.fetches == 2


async def test_a_failed_fetch_and_an_empty_set_lose_no_keys() -> None:
    publisher, clock = Publisher(), Clock()
    keys = trusting(publisher, clock, OLD)
    publisher.down = True
    with pytest.raises(Unauthenticated):
        await verify(keys, STRANGER)
    publisher.down, clock.seconds = False, 60
    with pytest.raises(Unauthenticated):
        await verify(keys, STRANGER)  # the set that was fetched has no key at all
    assert publisher.fetches == 2
    assert await verify(keys, OLD) == {"said": 1}


async def test_a_withdrawn_key_dies_with_the_refresh() -> None:
    keys = trusting(Publisher(NEW), Clock(), OLD)
    before = keys.generation
    await keys.refresh()
    assert keys.generation == before + 1
    with pytest.raises(Unauthenticated):
        await verify(keys, OLD)
