"""Work that must go on when whoever asked for it is cancelled, and is not lost at shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from tenantplane.core.errors import TenantplaneError

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Background:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Await the task shielded, or not at all: its failure is logged then."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def finish(self, seconds: float) -> None:
        """Waits this long for what runs, then cancels it."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        left = set(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        failed = task.exception()
        if isinstance(failed, TenantplaneError):
            # A refusal that its caller gets too, or a dependency that the sweeper waits for.
            _log.debug("ledger work ended with %s: %s", type(failed).__name__, failed.detail)
        elif failed is not None:
            _log.error("ledger work failed", exc_info=failed)
