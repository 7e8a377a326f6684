"""`tenantplane-dataplane ledger check | adopt`: an operator's, with the plane's own settings."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tenantplane.core.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from tenantplane.dataplane.ledger.meter import Meter
    from tenantplane.dataplane.ledger.provider_report import ProviderReport
    from tenantplane.dataplane.peering.session import PlaneSession


def add_ledger(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the data plane's parser; `run` of its namespace is to be awaited."""
    parser = commands.add_parser("ledger", help="compare the ledger's books, and repair them")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    checking = actions.add_parser("check", help="say each difference of an org's books; 1 if any")
    checking.add_argument("org")
    checking.add_argument("--repair", action="store_true", help="put right what can be")
    checking.add_argument(
        "--provider-report",
        metavar="CSV",
        help="with call_id,cost_usd or day,model,cost_usd in its first line",
    )
    checking.add_argument(
        "--without-control-plane", action="store_true", help="where it cannot be reached"
    )
    checking.set_defaults(run=_check)
    adopting = actions.add_parser(
        "adopt", help="after a restore: bring back what the control plane knows"
    )
    adopting.set_defaults(run=_adopt)


# Each imports what it needs: the parser is built at every start.


async def _check(chosen: argparse.Namespace) -> None:
    from tenantplane.dataplane.ledger.adoption import stored_snapshot  # noqa: PLC0415
    from tenantplane.dataplane.ledger.check import check  # noqa: PLC0415
    from tenantplane.dataplane.ledger.repair import repair  # noqa: PLC0415

    report = await asyncio.to_thread(_read_report, chosen.provider_report)
    async with _opened() as plane:
        snapshot = await stored_snapshot(plane.meter.database, chosen.org)
        control = None if chosen.without_control_plane else plane.control()
        found = await check(plane.meter, snapshot, control=control, report=report)
        for difference in found:
            print(difference)
        if found and chosen.repair:
            await repair(plane.meter, snapshot, found, report)
            found = await check(plane.meter, snapshot, control=control, report=report)
            for difference in found:
                print(f"not repaired: {difference}")
    if found:
        raise Conflict(
            f"{len(found)} differences in the books of {chosen.org!r}.",
            hint="See docs/how-to/check-the-ledger.md for what each means.",
            code="ledger_differs",
        )
    print(f"the books of {chosen.org} agree")


async def _adopt(_: argparse.Namespace) -> None:
    from tenantplane.dataplane.ledger.adoption import adopt  # noqa: PLC0415

    async with _opened() as plane:
        adopted = await adopt(plane.meter, plane.control())
    print(f"adopted {adopted.events} events of {adopted.orgs} orgs: {adopted.nanousd} nano-dollars")


def _read_report(path: str | None) -> ProviderReport | None:
    from tenantplane.dataplane.ledger.provider_report import read_report  # noqa: PLC0415

    if path is None:
        return None
    try:
        with Path(path).open(encoding="utf-8", newline="") as lines:
            return read_report(lines)
    except (OSError, UnicodeDecodeError) as unreadable:
        raise InvalidInput(f"{path} cannot be read: {unreadable}.") from None


@dataclass
class _Plane:
    """The plane's ledger, and its way to the control plane, which it enrolled at before."""

    meter: Meter
    session: PlaneSession | None

    def control(self) -> PlaneSession:
        """Raises Conflict where the plane has not enrolled."""
        if self.session is None:
            raise Conflict(
                "This plane has not enrolled at its control plane yet.",
                hint="Start it once, or say --without-control-plane.",
            )
        return self.session


@asynccontextmanager
async def _opened() -> AsyncIterator[_Plane]:
    from tenantplane.core.db.pool import Database  # noqa: PLC0415
    from tenantplane.core.keys.local import LocalKeyProvider  # noqa: PLC0415
    from tenantplane.core.valkey.client import AdmissionStore  # noqa: PLC0415
    from tenantplane.dataplane.ledger.meter import Meter  # noqa: PLC0415
    from tenantplane.dataplane.peering.peer import session_of  # noqa: PLC0415
    from tenantplane.dataplane.settings import DataPlaneSettings  # noqa: PLC0415

    settings = DataPlaneSettings.from_environment()
    provider = LocalKeyProvider(settings.master_key_bytes())
    database = Database(settings.database, name="data")
    store = AdmissionStore(settings.valkey)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(database.close)
        await database.open()
        opened.push_async_callback(store.close)
        await store.open()
        meter = Meter(database, store, provider)
        opened.push_async_callback(meter.close)
        await meter.start()
        session = await opened.enter_async_context(session_of(settings, database, provider))
        yield _Plane(meter, session)
