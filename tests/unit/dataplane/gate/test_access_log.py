"""The access log: each request's line, and no flood of one org's refusals."""

from __future__ import annotations

import logging

import pytest

from tenantplane.dataplane.gate.access_log import REFUSALS_A_SECOND, AccessLog

LOGGER = "tenantplane.access"


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == LOGGER]


def left_out(caplog: pytest.LogCaptureFixture) -> int:
    return sum(getattr(record, "refusals_not_logged", 0) for record in lines(caplog))


def test_a_flood_of_refusals_is_counted_and_not_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    seconds = 5.5
    log = AccessLog(lambda: seconds)
    for _ in range(1000):
        log.write("noisy", 429, {})
    assert len(lines(caplog)) == REFUSALS_A_SECOND
    seconds = 6.0
    log.write("noisy", 429, {})
    assert len(lines(caplog)) + left_out(caplog) == 1001
    assert len(lines(caplog)) == REFUSALS_A_SECOND + 1


def test_what_was_left_out_stands_in_the_orgs_next_line_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    log = AccessLog(lambda: 5.5)
    for _ in range(REFUSALS_A_SECOND + 7):
        log.write("noisy", 402, {})
    log.write("quiet", 200, {})
    log.write("noisy", 200, {})
    log.write("noisy", 200, {})
    told = [getattr(record, "refusals_not_logged", 0) for record in lines(caplog)[-3:]]
    assert told == [0, 7, 0]


@pytest.mark.parametrize(
    ("org_id", "status"), [("noisy", 200), ("noisy", 403), ("noisy", None), (None, 429)]
)
def test_every_other_request_has_its_line(
    caplog: pytest.LogCaptureFixture, org_id: str | None, status: int | None
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    log = AccessLog(lambda: 5.5)
    for _ in range(100):
        log.write(org_id, status, {})
    assert len(lines(caplog)) == 100
