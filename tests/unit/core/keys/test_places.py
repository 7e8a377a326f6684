"""What a ciphertext is bound to: every part counts, whichever it is."""

from __future__ import annotations

from itertools import combinations

import pytest

from tenantplane.core.errors import Forbidden
from tenantplane.core.keys.envelope import DataKey, associated_data, new_data_key

PLACES = (
    ("notes", "acme", "1"),
    ("threads", "acme", "1"),
    ("notes", "globex", "1"),
    ("notes", "acme", "2"),
    ("notes", "acme"),
    ("notes", "acme", "1", "1"),
)


@pytest.mark.parametrize(("here", "there"), tuple(combinations(PLACES, 2)))
def test_what_differs_in_any_part_is_another_place(
    here: tuple[str, ...], there: tuple[str, ...]
) -> None:
    # Both are made here and now, so that whatever makes them is what is tried.
    key = DataKey(new_data_key())
    sealed = key.encrypt(b"x", associated_data(*here))
    with pytest.raises(Forbidden):
        key.decrypt(sealed, associated_data(*there))
