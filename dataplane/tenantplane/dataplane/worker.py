"""Background tasks of a replica, in its process: each is started again when it ends or fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from tenantplane.core.errors import TenantplaneError
from tenantplane.dataplane.peering.backoff import Backoff

_log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
# A task that ran this long before it failed is tried again at once, not after the longest pause.
_STEADY_SECONDS = 60.0

Job = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class TaskState:
    """What readiness shows. `trouble` is why the task is waiting to be started again."""

    restarts: int = 0
    trouble: str | None = None


class Worker:
    """Jobs run for ever; one that fails never takes the others, or the process, with it."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = dict(jobs)
        self._tasks: list[asyncio.Task[None]] = []
        self.states = {name: TaskState() for name in jobs}

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._keep_running(name, job), name=name)
            for name, job in self._jobs.items()
        ]

    async def stop(self) -> None:
        """Cancels all jobs and waits for their clean-up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _keep_running(self, name: str, job: Job) -> None:
        state = self.states[name]
        pause = Backoff(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS)
        clock = asyncio.get_running_loop().time
        while True:
            began, state.trouble = clock(), None
            state.trouble = await _attempt(name, job)
            state.restarts += 1
            if clock() - began > _STEADY_SECONDS:
                pause.reset()
            await asyncio.sleep(pause.next_seconds())


async def _attempt(name: str, job: Job) -> str:
    """Runs the job until it ends; answers why it did."""
    try:
        await job()
    except TenantplaneError as refused:
        _log.warning("task %s stopped: %s", name, refused)
        return refused.error_code
    except Exception as failed:  # noqa: BLE001 (the border: whatever it is, the job starts again)
        _log.exception("task %s failed", name)
        return type(failed).__name__
    _log.error("task %s ended, which it never should", name)
    return "ended"
