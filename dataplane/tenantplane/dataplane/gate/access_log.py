"""One line for each request; of refusals for want of quota, a bounded number a second and org.

A tenant far over its quota would otherwise write its neighbours' log, and take a third of the time
that its refusals cost. What was left out is counted in the org's next line, so nothing is hidden.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tenantplane.core.telemetry.attributes import ORG_ID, USER_ID
from tenantplane.core.telemetry.logging import json_of_known, write_members

_access = logging.getLogger("tenantplane.access")

REFUSALS_A_SECOND = 10
# 402 hard cap, 429 quota or soft cap: what comes by the thousand from a client that does not wait.
_OVER_QUOTA = frozenset({402, 429})


@dataclass(slots=True)
class _Refusals:
    second: int  # of the clock `elapsed`
    logged: int = 0
    left_out: int = 0


class Request(NamedTuple):
    """What a line says of one request. The query is left out: it may carry content."""

    request_id_json: str
    method: str
    path: str
    status: int | None  # None: the client left before there was an answer
    seconds: float


class AccessLog:
    """`elapsed` counts seconds; `write` is telemetry's."""

    def __init__(
        self,
        elapsed: Callable[[], float] = time.monotonic,
        write: Callable[[logging.Logger, str, str], None] = write_members,
    ) -> None:
        self._elapsed = elapsed
        self._write = write
        self._refusals: dict[str, _Refusals] = {}

    def write(self, subject: Mapping[str, str], request: Request) -> None:
        """`subject` empty: nobody is proven, and each such request has its line."""
        org_id = subject.get(ORG_ID)
        if org_id is None:
            self._write(_access, "request", _members(request))
            return
        if request.status in _OVER_QUOTA and not self._room(org_id):
            return
        members = (
            f'"{ORG_ID}": {json_of_known(org_id)}, '
            f'"{USER_ID}": {json_of_known(subject[USER_ID])}, {_members(request)}'
        )
        if left_out := self._take_left_out(org_id):
            members += f', "refusals_not_logged": {left_out}'
        self._write(_access, "request", members)

    def _room(self, org_id: str) -> bool:
        second = int(self._elapsed())
        seen = self._refusals.setdefault(org_id, _Refusals(second))
        if seen.second != second:
            seen.second, seen.logged = second, 0
        if seen.logged >= REFUSALS_A_SECOND:
            seen.left_out += 1
            return False
        seen.logged += 1
        return True

    def _take_left_out(self, org_id: str) -> int:
        seen = self._refusals.get(org_id)
        if seen is None:
            return 0
        left_out, seen.left_out = seen.left_out, 0
        return left_out


def _members(request: Request) -> str:
    status = "null" if request.status is None else request.status
    return (
        f'"request_id": {request.request_id_json}, "method": {json_of_known(request.method)}, '
        f'"path": {json_of_known(request.path)}, "status": {status}, '
        f'"duration_ms": {round(request.seconds * 1000, 3)}'
    )
