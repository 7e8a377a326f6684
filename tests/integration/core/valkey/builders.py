"""Requests for tests: what a test does not say is harmless."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict, Unpack

import pytest

from tenantplane.core.errors import DependencyUnavailable
from tenantplane.core.valkey.answers import PeriodSpend, Spend, SpendAnswer
from tenantplane.core.valkey.requests import AdmitRequest, Level, Period, Slot
from tests.fixtures.valkey import SESSION_EPOCH

_ids = itertools.count()

# Half a day to both sides of now: no test comes near a border by accident.
START = int(time.time()) - 43_200
END = START + 86_400


def month(hard: int | None = None, soft: int | None = None, name: str = "month") -> Period:
    return Period(name, "current", START, END, soft, hard)


def org(hard: int | None = None, soft: int | None = None, name: str = "acme") -> Level:
    return Level("org", name, periods=(month(hard, soft),))


def slot_of(level: Level, period: Period) -> Slot:
    return Slot(level.kind, level.id, period.name, period.id, period.end_unix)


class Fields(TypedDict, total=False):
    epoch: int
    org_id: str
    snapshot_version: int
    hold_id: str
    hold_nanousd: int
    tokens: int
    ttl_seconds: int
    continues: bool
    window_ms: int
    least_nanousd: int | None


def request(root: str, *levels: Level, **fields: Unpack[Fields]) -> AdmitRequest:
    return AdmitRequest(
        root_org_id=root,
        epoch=fields.get("epoch", SESSION_EPOCH),
        org_id=fields.get("org_id", "acme"),
        snapshot_version=fields.get("snapshot_version", 1),
        hold_id=fields.get("hold_id", f"h{next(_ids)}"),
        hold_nanousd=fields.get("hold_nanousd", 0),
        tokens=fields.get("tokens", 0),
        ttl_seconds=fields.get("ttl_seconds", 60),
        levels=levels,
        continues=fields.get("continues", False),
        window_ms=fields.get("window_ms", 60_000),
        least_nanousd=fields.get("least_nanousd"),
    )


def only(spend: SpendAnswer) -> PeriodSpend:
    """The one account of an answer."""
    assert isinstance(spend, Spend), spend
    (account,) = spend.periods
    return account


@contextmanager
def says_in_its_log(caplog: pytest.LogCaptureFixture, what: str) -> Iterator[None]:
    """The call ends with 503, and the log, not the caller, is told what was wrong."""
    caplog.clear()
    with pytest.raises(DependencyUnavailable) as refused:
        yield
    assert refused.value.error_code == "admission_request_refused"
    assert what not in str(refused.value)
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert what in errors[0]
