"""Money is a whole number of nano-dollars: 1 USD = 1_000_000_000.

A token may cost a few thousand nano-dollars; the largest amount a cap may have is $9,000,000, so
that every sum stays below 2**53 and is exact in Lua's doubles too.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NewType

NanoUSD = NewType("NanoUSD", int)

NANO_PER_USD = 1_000_000_000
MAX_CAP = NanoUSD(9_000_000 * NANO_PER_USD)
ZERO = NanoUSD(0)

_USD = re.compile(r"\d{1,7}(\.\d{1,9})?", re.ASCII)


def parse_usd(text: str) -> NanoUSD:
    """`"12.50"` → 12_500_000_000. At most nine decimals; no sign, exponent, NaN or infinity.

    Raises ValueError with a message for the user.
    """
    if not _USD.fullmatch(text):
        raise ValueError(f"{text!r} is not an amount in USD such as '12.50'")
    return NanoUSD(int(Decimal(text) * NANO_PER_USD))


def price_per_token(usd_per_million: str) -> NanoUSD:
    """`"2.50"` USD for a million tokens → 2_500 nano-dollars a token.

    Raises ValueError where the price is not a whole number of nano-dollars a token: a rounded
    price would make events and invoices differ.
    """
    per_million = parse_usd(usd_per_million)
    if per_million % 1_000_000:
        raise ValueError(f"{usd_per_million!r} USD per million tokens has more than 3 decimals")
    return NanoUSD(per_million // 1_000_000)


def format_usd(amount: int) -> str:
    """12_500_000_000 → `"$12.50"`; as many decimals as the amount has, two at least."""
    sign, amount = ("-", -amount) if amount < 0 else ("", amount)
    whole, nano = divmod(amount, NANO_PER_USD)
    decimals = f"{nano:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{decimals}"
