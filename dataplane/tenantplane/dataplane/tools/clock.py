"""The clock: the time in a time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from tenantplane.dataplane.tools.definitions import (
    Tool,
    ToolArguments,
    ToolContext,
    ToolFailed,
    ToolFunction,
)


class ClockArguments(ToolArguments):
    time_zone: Annotated[
        str, Field(max_length=64, description="IANA name, such as Europe/Berlin; UTC unless given")
    ] = "UTC"


async def tell_time(context: ToolContext, arguments: ClockArguments) -> str:
    """The plane has one clock, the database's."""
    now = context.database.clock.now().astimezone(UTC)
    return time_in(now, arguments.time_zone)


def time_in(now: datetime, time_zone: str) -> str:
    """ISO 8601 with offset and zone. Raises ToolFailed for an unknown zone."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolFailed(f"{time_zone!r} is no IANA time zone; try 'Europe/Berlin'.") from None
    return f"{now.astimezone(zone).isoformat(timespec='seconds')} ({time_zone})"


CLOCK = Tool(
    "clock",
    (ToolFunction("clock", "The current date and time.", ClockArguments, tell_time),),
)
