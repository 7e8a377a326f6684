"""Limits in shadow: each call counts, one line a second and org tells."""

from __future__ import annotations

import logging

import pytest

from tenantplane.core.valkey.answers import Reason, Refused
from tenantplane.dataplane.gate.shadow import ShadowReport

WOULD_REFUSE = (Refused(Reason.REQUESTS, "user", "acme/u", 5, 5, 1_000),)


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_every_call_counts_and_a_line_says_how_many_it_stands_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    report = ShadowReport(clock)
    with caplog.at_level(logging.INFO, logger="tenantplane.shadow"):
        for _ in range(3):
            report.note("acme", WOULD_REFUSE)
        clock.seconds += 1.0
        report.note("acme", WOULD_REFUSE)
    assert report.calls("acme") == 4
    assert [vars(record)["calls"] for record in caplog.records] == [1, 3]
    assert [vars(record)["org_id"] for record in caplog.records] == ["acme", "acme"]
    (limit,) = vars(caplog.records[0])["limits"]
    assert limit == {
        "reason": "REQUESTS",
        "level": "user",
        "level_id": "acme/u",
        "period": None,
        "limit": 5,
        "used": 5,
    }


def test_a_neighbour_has_its_own_line_and_count(caplog: pytest.LogCaptureFixture) -> None:
    report = ShadowReport(Clock())
    with caplog.at_level(logging.INFO, logger="tenantplane.shadow"):
        report.note("acme", WOULD_REFUSE)
        report.note("globex", WOULD_REFUSE)
    assert len(caplog.records) == 2
    assert (report.calls("acme"), report.calls("globex"), report.calls("initech")) == (1, 1, 0)


def test_where_nothing_stood_against_the_call_nothing_is_counted() -> None:
    report = ShadowReport(Clock())
    report.note("acme", ())
    assert report.calls("acme") == 0


def test_memory_is_bounded() -> None:
    report = ShadowReport(Clock(), capacity=2)
    for org_id in ("first", "second", "first", "third"):
        report.note(org_id, WOULD_REFUSE)
    assert [report.calls(org_id) for org_id in ("first", "second", "third")] == [2, 0, 1]
