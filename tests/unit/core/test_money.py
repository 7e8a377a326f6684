from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core import money


@given(st.integers(min_value=0, max_value=money.MAX_CAP))
def test_what_is_printed_is_what_is_parsed(amount: int) -> None:
    text = money.format_usd(amount).lstrip("$").replace(",", "")
    assert money.parse_usd(text) == amount


@pytest.mark.parametrize("text", ["-1", "NaN", "inf", "1e3", "1.0000000001", "", " 1", "1.", "١"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        money.parse_usd(text)


def test_a_price_that_is_no_whole_number_of_nano_dollars_is_refused() -> None:
    assert money.price_per_token("2.50") == 2_500
    with pytest.raises(ValueError, match="more than 3 decimals"):
        money.price_per_token("0.0001")


def test_negative_amounts_are_printed_with_their_sign() -> None:
    assert money.format_usd(-1_500_000_000) == "-$1.50"
