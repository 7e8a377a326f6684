"""The access log: each request's line, and no flood of one org's refusals."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from tenantplane.core.ids import new_api_key
from tenantplane.core.telemetry.redaction import REDACTED
from tenantplane.dataplane.gate.access_log import REFUSALS_A_SECOND, AccessLog, Request


class Written:
    """What was written, and a clock."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.seconds = 5.5
        self.log = AccessLog(lambda: self.seconds, self._take)

    def _take(self, logger: logging.Logger, message: str, members: str) -> None:
        assert (logger.name, message) == ("tenantplane.access", "request")
        self.lines.append(json.loads("{" + members + "}"))

    def write(self, org_id: str | None, status: int | None, path: str = "/v1/models") -> None:
        subject = {} if org_id is None else {"org_id": org_id, "user_id": "alice"}
        self.log.write(subject, Request('"r1"', "GET", path, status, 0.0123456))

    def left_out(self) -> list[int]:
        return [line.get("refusals_not_logged", 0) for line in self.lines]


@pytest.fixture
def written() -> Written:
    return Written()


def test_a_line_says_who_what_and_how_long(written: Written) -> None:
    written.write("acme", 200)
    written.write(None, None)
    request = {"request_id": "r1", "method": "GET", "path": "/v1/models", "duration_ms": 12.346}
    assert written.lines == [
        request | {"org_id": "acme", "user_id": "alice", "status": 200},
        request | {"status": None},
    ]


def test_a_path_cannot_break_its_line_nor_show_a_secret(written: Written) -> None:
    secret = new_api_key()
    for path in ('/a"b', "/a\n\u2028\ud800", f"/v1/{secret}", "/" + "x" * 50_000):
        written.write(None, 401, path)
    first, second, third, fourth = (line["path"] for line in written.lines)
    assert (first, second, third) == ('/a"b', "/a\n\u2028\ud800", f"/v1/{REDACTED}")
    assert len(fourth) < 40_000


def test_a_flood_of_refusals_is_counted_and_not_written(written: Written) -> None:
    for _ in range(1000):
        written.write("noisy", 429)
    assert len(written.lines) == REFUSALS_A_SECOND
    written.seconds = 6.0
    written.write("noisy", 429)
    assert len(written.lines) + sum(written.left_out()) == 1001
    assert len(written.lines) == REFUSALS_A_SECOND + 1


def test_what_was_left_out_stands_in_the_orgs_next_line_once(written: Written) -> None:
    for _ in range(REFUSALS_A_SECOND + 7):
        written.write("noisy", 402)
    written.write("quiet", 200)
    written.write("noisy", 200)
    written.write("noisy", 200)
    assert written.left_out()[-3:] == [0, 7, 0]


@pytest.mark.parametrize(
    ("org_id", "status"), [("noisy", 200), ("noisy", 403), ("noisy", None), (None, 429)]
)
def test_every_other_request_has_its_line(
    written: Written, org_id: str | None, status: int | None
) -> None:
    for _ in range(100):
        written.write(org_id, status)
    assert len(written.lines) == 100
