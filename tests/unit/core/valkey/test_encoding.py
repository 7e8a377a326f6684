"""Requests are checked whole before anything is sent; replies become answers."""

from dataclasses import replace
from hashlib import blake2b

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


def test_limits_travel_as_digits_absent_ones_as_nothing_and_a_call_as_one_argument() -> None:
    head = "1\nacme\n4\nh\n5\n5\n6\n60\n60000\n0\n"
    level = "org\nacme\n0\n0\n10\n\n\n1\nmonth\n2026-02\n0\n9\n\n8\n"
    text = encoding.admit_argument(REQUEST)
    digest = blake2b(f"{level}\x1e".encode(), digest_size=16).hexdigest()
    assert text == f"{head}{digest}\n{level}\x1e"
    shadow = Level("user", "u", concurrent_calls=3, shadow=True, suspended=True)
    changed = replace(REQUEST, levels=(shadow,), least_nanousd=2, continues=True)
    text = encoding.admit_argument(changed)
    assert text.startswith("1\nacme\n4\nh\n5\n2\n6\n60\n60000\n1\n")
    assert text.endswith("\nuser\nu\n1\n1\n\n\n3\n0\n\x1e")


def test_a_level_is_written_once_and_equal_ones_alike() -> None:
    (level,) = REQUEST.levels
    twin = replace(level)
    assert encoding.admit_argument(replace(REQUEST, levels=(twin,))) == encoding.admit_argument(
        REQUEST
    )
    first = encoding.admit_argument(REQUEST)
    assert encoding.admit_argument(REQUEST) == first
    other = replace(level, requests_per_window=11)
    assert encoding.admit_argument(replace(REQUEST, levels=(other,))) != first


@pytest.mark.parametrize("name", ["", "a\n0", "a\x00", "a\x7f", "\ud800", "é" * 257])
def test_a_name_that_could_end_a_field_or_is_no_text_is_refused(name: str) -> None:
    """An end user's id comes from a token: a newline in it would shift the limits after it."""
    (level,) = REQUEST.levels
    period = replace(level.periods[0], id=name)
    for bad in (
        replace(REQUEST, org_id=name),
        replace(REQUEST, levels=(replace(level, kind=name),)),
        replace(REQUEST, levels=(replace(level, id=name),)),
        replace(REQUEST, levels=(replace(level, periods=(period,)),)),
        replace(REQUEST, levels=(replace(level, periods=(replace(period, id="x", name=name),)),)),
    ):
        with pytest.raises(InvalidInput, match="without control characters"):
            encoding.admit_argument(bad)


def test_the_least_amount_lies_within_the_amount() -> None:
    with pytest.raises(InvalidInput, match="least_nanousd must not be above"):
        encoding.admit_argument(replace(REQUEST, least_nanousd=6))


@pytest.mark.parametrize("amount", [-1, 1.5, float("nan"), float("inf"), 10**16, True, None, "1"])
def test_an_amount_that_is_no_amount_is_refused(amount: object) -> None:
    with pytest.raises(InvalidInput, match="hold_nanousd must be a whole number"):
        encoding.admit_argument(replace(REQUEST, hold_nanousd=amount))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="nanousd must be a whole number"):
        encoding.settle_argument("acme", 1, "h", Stage.ACTUAL, amount, None, False)  # type: ignore[arg-type]


def test_one_error_names_every_bad_field() -> None:
    bad = replace(REQUEST, epoch=0, hold_id="a:b", root_org_id="{x}", levels=())
    with pytest.raises(InvalidInput) as caught:
        encoding.admit_argument(bad)
    assert {fault.path for fault in caught.value.errors} == {
        "epoch",
        "hold_id",
        "root_org_id",
        "levels",
    }


def test_replies_become_answers() -> None:
    levels = (Level("umbrella", "u"), Level("org", "acme", 10, 20))
    windows: encoding.Reply = [1, 1, 6, 59_000, 0]
    use = WindowUse("org", "acme", 1, 6, 10, 20, 59_000, 0)
    refusal: encoding.Reply = [b"HARDCAP", b"org", b"acme", b"8", b"7", b"1000", b"month"]
    refused = Refused(Reason.HARD_CAP, "org", "acme", 8, 7, 1000, "month")
    admitted: encoding.Reply = [b"ADMITTED", b"new", 5, 99, 1, *windows, *refusal, *refusal]
    assert encoding.admit_answer(admitted, levels) == Admitted(
        Placing.NEW, 5, 99, (use,), (refused, refused)
    )
    assert encoding.admit_answer([b"REFUSED", *refusal, *windows], levels) == replace(
        refused, windows=(use,)
    )
    assert encoding.admit_answer([b"STALE", b"9"], ()) == Stale(9)
    assert encoding.admit_answer([b"EPOCH", b""], ()) == EpochLost(None)
    assert encoding.admit_answer([b"EPOCH", b"3"], ()) == EpochLost(3)
    assert encoding.admit_answer([b"NOTINSTALLED"], ()) == NotInstalled()


def test_an_unknown_reply_is_an_error_and_never_an_admission() -> None:
    with pytest.raises(ValueError, match="does not know"):
        encoding.admit_answer([b"WHATEVER"], ())
