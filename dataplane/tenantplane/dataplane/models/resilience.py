"""The attempts of one model call: each is a call of its own to the meter, with its own hold, intent
and outcome, so that nothing here needs to know of money.

    async for attempt in providers.attempts(org_id, grant, fallbacks):
        with attempt:
            return await one_metered_call(attempt.grant)

An attempt that fails with ProviderUnavailable is followed by the next one, or by the first error
(models/attempts.py decides); what a guard (models/guard.py) does not let in counts as failed. Any
other error leaves the block as it is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from pydantic import JsonValue

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import (
    HardCapReached,
    InvalidInput,
    ProviderUnavailable,
    TenantplaneError,
)
from tenantplane.dataplane.models.attempts import (
    WITHIN_SECONDS,
    Failed,
    Fallback,
    Retry,
    RetryPolicy,
    decide,
)
from tenantplane.dataplane.models.guard import Entry, Guard

T = TypeVar("T")

_NO_REPEATS = RetryPolicy(retries=0, repeat_billed_calls=False)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A model that did not answer, and the error's code."""

    model: str
    code: str

    def note(self) -> dict[str, JsonValue]:
        return {"model": self.model, "error": self.code}


class Attempt:
    """One attempt, within a `with` block; a provider's failure does not leave the block.
    `answered`: a part of the answer went to the caller, so that nothing can be repeated."""

    __slots__ = ("_attempts", "_entry", "_guard", "_handed_over", "answered", "grant")

    def __init__(
        self, attempts: Attempts, grant: ModelGrant, guard: Guard | None, entry: Entry | None
    ) -> None:
        self.grant = grant
        self.answered = False
        self._attempts = attempts
        self._guard = guard
        self._entry = entry
        self._handed_over = False

    @property
    def is_first(self) -> bool:
        return not self._attempts.failures

    def note(self) -> dict[str, JsonValue]:
        """For the audit record: what failed before in the same call."""
        return {"after_failed": [failure.note() for failure in self._attempts.failures]}

    def answers(self) -> None:
        """To be said when a part of the answer goes to the caller; again is harmless."""
        if not self.answered:
            self.answered = True
            if self._guard is not None and self._entry is not None:
                self._guard.answers(self._attempts.org_id, self._entry)

    def to_its_end(self, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """`work`, for a task that goes on when its caller leaves: the turn is kept until it ends."""
        self._handed_over = True
        return self._until_ended(work)

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not self._handed_over:
            self._leave(error)
        return error is not None and self._attempts.failed(self, error)

    async def _until_ended(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            result = await work
        except BaseException as error:
            self._leave(error)
            raise
        self._leave(None)
        return result

    def _leave(self, error: BaseException | None) -> None:
        entry, self._entry = self._entry, None
        if self._guard is not None and entry is not None:
            self._guard.leave(self._attempts.org_id, self.grant, entry, error)


class Attempts:
    """The attempts of one call, made one after the other; see the module. `fallbacks` is called
    once, where the first model fails; `on_failure` for each attempt that fails."""

    def __init__(
        self,
        guards: Mapping[str, Guard],
        org_id: str,
        grant: ModelGrant,
        fallbacks: Callable[[], Sequence[ModelGrant]],
        on_failure: Callable[[FailedAttempt], None],
        elapsed: Callable[[], float],
    ) -> None:
        self._guards = guards
        self.org_id = org_id
        self._asked_for = self._grant = grant
        self._fallbacks = fallbacks
        self._on_failure = on_failure
        self._elapsed = elapsed
        self._until = elapsed() + WITHIN_SECONDS
        self._left: list[ModelGrant] | None = None
        self._tries = 0
        self._last_error: ProviderUnavailable | None = None
        self._last_asked = False
        self._over = False
        self.failures: list[FailedAttempt] = []
        self._first_error: ProviderUnavailable | None = None

    def __aiter__(self) -> Attempts:
        return self

    async def __anext__(self) -> Attempt:
        """Raises the first error where no other attempt is worth its price."""
        while True:
            if self._last_error is not None:
                await self._go_on(self._last_error)
            self._tries += 1
            guard = self._guards.get(self._grant.provider)
            if guard is None:
                return Attempt(
                    self, self._grant, None, None
                )  # built in, or it will say that it lacks
            try:
                entry = await guard.enter(self.org_id, self._grant)
            except ProviderUnavailable as refused:
                self._note(refused, asked=False)
                continue
            if self._tries == 1:
                guard.budget.earn()
            return Attempt(self, self._grant, guard, entry)

    def failed(self, attempt: Attempt, error: BaseException) -> bool:
        """Whether the block's error is taken: another attempt, or the first error, follows."""
        if attempt.answered:
            return False
        if isinstance(error, ProviderUnavailable):
            self._note(error, asked=True)
            return True
        # That the next model does not take this request, or does not fit into the budget, is not
        # what the caller asked about: the model that was asked for may be back in a moment.
        is_other = attempt.grant is not self._asked_for
        if is_other and isinstance(error, InvalidInput | HardCapReached):
            self._tell(error)
            self._over = True
            return True
        return False

    def _note(self, error: ProviderUnavailable, *, asked: bool) -> None:
        self._tell(error)
        self._last_error, self._last_asked = error, asked
        self._first_error = self._first_error or error

    def _tell(self, error: TenantplaneError) -> None:
        failure = FailedAttempt(self._grant.name, error.error_code)
        self.failures.append(failure)
        self._on_failure(failure)

    async def _go_on(self, error: ProviderUnavailable) -> None:
        assert self._first_error is not None
        guard = self._guards.get(self._grant.provider)
        following = self._following()
        policy = guard.policy if guard else _NO_REPEATS
        elsewhere = following is not None and following.provider != self._grant.provider
        failed = Failed(
            error=error,
            asked=self._last_asked,
            answered=self._over,
            tries=self._tries,
            seconds_left=self._until - self._elapsed(),
            budget=guard is not None and guard.budget.has_one,
            next_model=following is not None,
            next_elsewhere=elsewhere,
        )
        match decide(failed, policy, random.random()):  # noqa: S311 jitter is no secret
            case Retry(after_seconds):
                self._spend()
                await asyncio.sleep(after_seconds)
            case Fallback() if following is not None:
                if not elsewhere:
                    self._spend()
                self._take(following)
            case _:
                raise self._first_error

    def _following(self) -> ModelGrant | None:
        if self._left is None:
            self._left = list(self._fallbacks())
        return self._left[0] if self._left else None

    def _take(self, following: ModelGrant) -> None:
        assert self._left is not None
        self._left.pop(0)
        self._grant, self._tries = following, 0

    def _spend(self) -> None:
        guard = self._guards.get(self._grant.provider)
        if guard is not None:
            guard.budget.spend()
