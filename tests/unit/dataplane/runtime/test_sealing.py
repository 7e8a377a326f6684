from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.errors import Forbidden, InvalidInput
from tenantplane.core.keys.envelope import DataKey
from tenantplane.dataplane.runtime.sealing import place, seal, unseal
from tenantplane.dataplane.runtime.serializer import StrictSerializer

PARTS = st.lists(st.text("ab|:,\0", max_size=3) | st.integers(-3, 99), max_size=4)
SERIALIZER = StrictSerializer()


@given(left=PARTS, right=PARTS)
def test_two_places_never_read_alike(left: list[str | int], right: list[str | int]) -> None:
    assert (place("p", *left) == place("p", *right)) == (left == right)


def test_a_purpose_is_part_of_the_place() -> None:
    assert place("checkpoint", "a") != place("checkpoint_write", "a")


def test_a_name_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(InvalidInput):
        place("checkpoint", "\ud800")


@pytest.mark.parametrize("value", [None, "text", b"raw", {"a": [1, 2.5]}, b"", ""])
def test_what_was_sealed_opens_in_its_place_alone(value: object) -> None:
    key = DataKey(secrets.token_bytes(32))
    sealed = seal(key, SERIALIZER, value, place("here"))
    assert unseal(key, SERIALIZER, sealed, place("here")) == value
    for other, at in ((key, place("there")), (DataKey(secrets.token_bytes(32)), place("here"))):
        with pytest.raises(Forbidden) as refused:
            unseal(other, SERIALIZER, sealed, at)
        assert refused.value.error_code == "checkpoint_refused"


def test_a_sealed_text_without_a_type_is_refused() -> None:
    key = DataKey(secrets.token_bytes(32))
    with pytest.raises(Forbidden):
        unseal(key, SERIALIZER, key.encrypt(b"msgpack", place("here")), place("here"))
