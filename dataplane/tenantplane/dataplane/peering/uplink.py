"""The way up: usage events and audit commitments, and what the plane found in its database."""

from __future__ import annotations

from collections.abc import Sequence

from tenantplane.core.apis.events import BatchAck, PlaneUsage
from tenantplane.core.apis.planes import IsolationReport
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane.peering.session import Fields, PlaneSession


class ControlPlaneUplink:
    """The shipper's Uplink over HTTPS. Before the enrolment it answers DependencyUnavailable: the
    rows wait in Postgres, and the shipper's cursor with them."""

    def __init__(self) -> None:
        self._session: PlaneSession | None = None

    def connect(self, session: PlaneSession) -> None:
        self._session = session

    async def send_usage(self, events: Sequence[Fields]) -> BatchAck:
        return await self._connected().send_usage(events)

    async def send_audit(self, commitments: Sequence[Fields]) -> BatchAck:
        return await self._connected().send_audit(commitments)

    async def acknowledged_usage(self) -> PlaneUsage:
        return await self._connected().acknowledged_usage()

    async def send_isolation(self, report: IsolationReport) -> None:
        await self._connected().send_isolation(report)

    def _connected(self) -> PlaneSession:
        if self._session is None:
            raise DependencyUnavailable(
                "This plane has not enrolled at its control plane yet.",
                code="plane_not_enrolled",
                retry_after_seconds=2,
            )
        return self._session
