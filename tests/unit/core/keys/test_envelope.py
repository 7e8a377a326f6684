"""Envelope encryption: what is sealed for one place opens there alone (F60)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.errors import ConfigurationRefused, Forbidden
from tenantplane.core.keys.envelope import DataKey, associated_data, new_data_key
from tenantplane.core.keys.local import LocalKeyProvider

KEY = DataKey(bytes(range(32)))
PLACE = associated_data("notes", "acme", "1")


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_it_opens_where_it_was_sealed(plaintext: bytes, associated: bytes) -> None:
    sealed = KEY.encrypt(plaintext, associated)
    assert KEY.decrypt(sealed, associated) == plaintext
    assert KEY.encrypt(plaintext, associated) != sealed


@pytest.mark.parametrize(
    "place",
    [
        associated_data("notes", "globex", "1"),
        associated_data("notes", "acme", "2"),
        associated_data("threads", "acme", "1"),
        b"",
    ],
)
def test_it_opens_in_no_other_org_row_or_column(place: bytes) -> None:
    with pytest.raises(Forbidden) as refused:
        KEY.decrypt(KEY.encrypt(b"secret text", PLACE), place)
    assert refused.value.error_code == "ciphertext_refused"
    assert "secret text" not in str(refused.value)


def test_every_changed_or_missing_byte_is_noticed() -> None:
    sealed = KEY.encrypt(b"secret text", PLACE)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        for damaged in (bytes(changed), sealed[:position]):
            with pytest.raises(Forbidden):
                KEY.decrypt(damaged, PLACE)


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(Forbidden):
        DataKey(new_data_key()).decrypt(KEY.encrypt(b"x", PLACE), PLACE)


@pytest.mark.parametrize("parts", [("notes", ""), ("notes", "a|b"), ("", "acme")])
def test_borders_of_a_place_cannot_be_blurred(parts: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="associated data"):
        associated_data(*parts)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_data_key_has_256_bits(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey(bytes(size))


async def test_a_wrapped_key_opens_for_its_own_org_alone() -> None:
    provider = LocalKeyProvider(bytes(range(32)))
    dek = new_data_key()
    wrapped = await provider.wrap("acme", dek)
    assert dek not in wrapped
    assert await provider.unwrap("acme", wrapped) == dek
    with pytest.raises(Forbidden) as refused:
        await provider.unwrap("globex", wrapped)
    assert refused.value.error_code == "ciphertext_refused"
    with pytest.raises(Forbidden):
        await LocalKeyProvider(bytes(range(1, 33))).unwrap("acme", wrapped)


@pytest.mark.parametrize("text", ["", "00" * 32, "ab" * 32, "zz" * 32, "0123", "é" * 64])
def test_a_weak_or_malformed_master_key_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ConfigurationRefused, match="openssl rand -hex 32") as refused:
        LocalKeyProvider.from_hex(text)
    assert not text or text not in str(refused.value)


async def test_hexadecimal_is_the_form_of_the_environment() -> None:
    master = bytes(range(32))
    wrapped = await LocalKeyProvider(master).wrap("acme", b"k")
    assert await LocalKeyProvider.from_hex(master.hex() + "\n").unwrap("acme", wrapped) == b"k"


def test_keys_do_not_show_in_a_repr() -> None:
    assert repr(KEY) == "DataKey(…)"
    assert repr(LocalKeyProvider(bytes(range(32)))) == "LocalKeyProvider(…)"
