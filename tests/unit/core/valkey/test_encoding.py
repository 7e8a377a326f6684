"""Requests are checked whole before anything is sent; replies become answers."""

from dataclasses import replace

import pytest

from tenantplane.core.errors import InvalidInput
from tenantplane.core.valkey import encoding
from tenantplane.core.valkey.answers import (
    Admitted,
    EpochLost,
    NotInstalled,
    Placing,
    Reason,
    Refused,
    Stale,
    WindowUse,
)
from tenantplane.core.valkey.requests import AdmitRequest, Level, Period, Stage

REQUEST = AdmitRequest(
    root_org_id="acme",
    epoch=1,
    org_id="acme",
    snapshot_version=4,
    hold_id="h",
    hold_nanousd=5,
    tokens=6,
    ttl_seconds=60,
    levels=(Level("org", "acme", 10, None, (Period("month", "2026-02", 0, 9, None, 8),)),),
)


def test_limits_travel_as_digits_and_absent_ones_as_nothing() -> None:
    head = ["1", "acme", "4", "h", "5", "6", "60", "60000", "0"]
    level = ["1", "org", "acme", "0", "10", "", "1"]
    assert encoding.admit_arguments(REQUEST) == [
        *head, *level, "month", "2026-02", "0", "9", "", "8",
    ]  # fmt: skip


@pytest.mark.parametrize("amount", [-1, 1.5, float("nan"), float("inf"), 10**16, True, None, "1"])
def test_an_amount_that_is_no_amount_is_refused(amount: object) -> None:
    with pytest.raises(InvalidInput, match="hold_nanousd must be a whole number"):
        encoding.admit_arguments(replace(REQUEST, hold_nanousd=amount))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="nanousd must be a whole number"):
        encoding.settle_arguments("acme", 1, "h", Stage.ACTUAL, amount, None, False)  # type: ignore[arg-type]


def test_one_error_names_every_bad_field() -> None:
    bad = replace(REQUEST, epoch=0, hold_id="a:b", root_org_id="{x}", levels=())
    with pytest.raises(InvalidInput) as caught:
        encoding.admit_arguments(bad)
    assert {fault.path for fault in caught.value.errors} == {
        "epoch",
        "hold_id",
        "root_org_id",
        "levels",
    }


def test_replies_become_answers() -> None:
    admitted: encoding.Reply = [b"ADMITTED", b"new", b"5", b"99", b"org", b"acme", b"1", b"6"]
    assert encoding.admit_answer(admitted) == Admitted(
        Placing.NEW, 5, 99, (WindowUse("org", "acme", 1, 6),)
    )
    assert encoding.admit_answer(
        [b"REFUSED", b"HARDCAP", b"org", b"acme", b"8", b"7", b"1000", b"month"]
    ) == Refused(Reason.HARD_CAP, "org", "acme", 8, 7, 1000, "month")
    assert encoding.admit_answer([b"STALE", b"9"]) == Stale(9)
    assert encoding.admit_answer([b"EPOCH", b""]) == EpochLost(None)
    assert encoding.admit_answer([b"EPOCH", b"3"]) == EpochLost(3)
    assert encoding.admit_answer([b"NOTINSTALLED"]) == NotInstalled()


def test_an_unknown_reply_is_an_error_and_never_an_admission() -> None:
    with pytest.raises(ValueError, match="does not know"):
        encoding.admit_answer([b"WHATEVER"])
