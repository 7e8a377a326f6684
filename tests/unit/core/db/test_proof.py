from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.db.proof import PROOF_LIFE_SECONDS, Proofs, hmac_pads, make_proof

KEY = bytes(range(32))


def test_a_proof_is_key_expiry_and_hmac() -> None:
    key_id, expiry, mac = make_proof("k1", KEY, "acme", 1_800_000_000).split(".")
    assert (key_id, expiry) == ("k1", "1800000000")
    assert mac == hmac.new(KEY, b"acme|1800000000", "sha256").hexdigest()


@given(key=st.binary(min_size=1, max_size=100), message=st.binary(max_size=200))
def test_the_pads_make_the_same_hmac_as_the_key(key: bytes, message: bytes) -> None:
    inner, outer = hmac_pads(key)
    by_pads = hashlib.sha256(outer + hashlib.sha256(inner + message).digest()).digest()
    assert by_pads == hmac.digest(key, message, "sha256")


@pytest.mark.parametrize("org", ["", "acme|9999999999", "Acme", "a" * 41, "acme\n", "ácme"])
def test_nothing_but_an_org_id_is_signed(org: str) -> None:
    with pytest.raises(ValueError, match="is not an org id"):
        make_proof("k1", KEY, org, 1_800_000_000)


@pytest.mark.parametrize(("key_id", "key"), [("k.1", KEY), ("", KEY), ("k1", KEY[:31])])
def test_a_key_that_the_database_would_not_take_is_refused(key_id: str, key: bytes) -> None:
    with pytest.raises(ValueError, match=r"key_id must be|must have 32 bytes"):
        make_proof(key_id, key, "acme", 1_800_000_000)


def test_a_proof_is_made_anew_after_some_seconds() -> None:
    now = 1_800_000_000.0
    proofs = Proofs("k1", KEY, lambda: now)

    def fresh(org: str) -> str:
        return make_proof("k1", KEY, org, int(now) + PROOF_LIFE_SECONDS)

    first = fresh("a")
    assert (proofs.of("a"), proofs.of("b")) == (first, fresh("b"))
    now += 4.9
    assert proofs.of("a") == first != fresh("a")
    now += 0.2
    assert proofs.of("a") == fresh("a") != first


def test_no_proof_outlives_a_clock_that_was_set_back() -> None:
    now = 1_800_000_000.0
    proofs = Proofs("k1", KEY, lambda: now)
    ahead = proofs.of("a")
    now -= 3600
    assert proofs.of("a") == make_proof("k1", KEY, "a", int(now) + PROOF_LIFE_SECONDS) != ahead
