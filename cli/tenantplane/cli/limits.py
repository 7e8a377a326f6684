"""`tenantplane limits`: more room under a tenant's caps for a time."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from pydantic import ValidationError

from tenantplane.cli.context import with_registry
from tenantplane.cli.output import console, table
from tenantplane.core.apis.raises import RaiseRequest, RaiseView
from tenantplane.core.errors import FieldError, InvalidInput
from tenantplane.core.registry import RegistryClient

app = typer.Typer(
    help="Raise a tenant's caps for a time, top up what it may spend, go on after an excess.",
    epilog="example: tenantplane limits top-up acme --usd 50",
    no_args_is_help=True,
)


class Period(StrEnum):
    DAY = "day"
    MONTH = "month"


Org = Annotated[str, typer.Argument(help="The tenant.")]
Usd = Annotated[str, typer.Option(help="How much more it may spend, such as 50 or 12.50.")]
Of = Annotated[Period, typer.Option(help="Whose caps are raised.")]


@app.command(
    "raise",
    epilog="example: tenantplane limits raise acme --usd 50 --until 2026-12-24",
)
def raise_caps(
    org: Org,
    usd: Usd,
    until: Annotated[
        str, typer.Option(help="A day or a time, in the tenant's time zone: 2026-12-24T18:00.")
    ],
    since: Annotated[
        str | None, typer.Option("--from", help="When it begins, likewise; now where absent.")
    ] = None,
    period: Of = Period.MONTH,
) -> None:
    """Raise the caps of each day or month until a time."""

    async def work(registry: RegistryClient) -> None:
        zone = ZoneInfo((await registry.tenant(org)).spec.time_zone)
        ends, begins = _time("--until", until, zone), since and _time("--from", since, zone)
        await _raise(registry, org, period, usd, ends, begins or None)

    with_registry(work)


@app.command("top-up", epilog="example: tenantplane limits top-up acme --usd 50 --period day")
def top_up(org: Org, usd: Usd, period: Of = Period.MONTH) -> None:
    """Raise the caps of the day or month that is running, until it ends."""
    with_registry(lambda registry: _raise(registry, org, period, usd, None, None))


@app.command("list", epilog="example: tenantplane limits list acme")
def list_raises(org: Org) -> None:
    """List raises: those that stand, and those that are over."""

    async def show(registry: RegistryClient) -> None:
        table(
            ("raise", "period", "usd", "begins", "ends", "state", "by"),
            [
                (
                    r.raise_id,
                    r.period,
                    r.extra_usd,
                    _told(r.begins_at),
                    _told(r.ends_at),
                    r.state,
                    r.created_by,
                )
                for r in await registry.raises(org)
            ],
        )

    with_registry(show)


@app.command(epilog="example: tenantplane limits end acme 0193a0b4-…")
def end(org: Org, raise_id: Annotated[str, typer.Argument(help="As `limits list` says.")]) -> None:
    """End a raise now."""

    async def work(registry: RegistryClient) -> None:
        view = await registry.end_raise(org, raise_id)
        console.print(f"raise {view.raise_id} of {org} is {view.state}")

    with_registry(work)


@app.command(epilog="example: tenantplane limits acknowledge acme")
def acknowledge(org: Org) -> None:
    """Let a tenant go on that was stopped because a provider reported more than was held."""

    async def work(registry: RegistryClient) -> None:
        view = await registry.acknowledge_excess(org)
        console.print(f"{org} goes on: excesses until {_told(view.excess_acknowledged_until)}")

    with_registry(work)


async def _raise(
    registry: RegistryClient,
    org: str,
    period: Period,
    usd: str,
    ends_at: datetime | None,
    begins_at: datetime | None,
) -> None:
    try:
        request = RaiseRequest(
            period=period.value, extra_usd=usd, begins_at=begins_at, ends_at=ends_at
        )
    except ValidationError as error:
        raise InvalidInput(
            f"{usd!r} is no amount to raise a cap by.",
            hint="Name US dollars, such as --usd 50 or --usd 12.50.",
            errors=tuple(FieldError("--usd", e["msg"]) for e in error.errors()),
        ) from None
    _print(org, await registry.raise_caps(org, request))


def _print(org: str, view: RaiseView) -> None:
    console.print(
        f"{org} may spend ${view.extra_usd} more per {view.period} until {_told(view.ends_at)}; "
        f"{view.state}, version {view.version}"
    )
    console.print(f"To end it before: tenantplane limits end {org} {view.raise_id}")


def _time(option: str, text: str, zone: ZoneInfo) -> datetime:
    """Raises InvalidInput."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f"{text!r} is no time for {option}.", hint="Write 2026-12-24 or 2026-12-24T18:00."
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)


def _told(time: datetime) -> str:
    return time.isoformat(sep=" ", timespec="minutes")
