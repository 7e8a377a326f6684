"""What stands in front of a provider: a pool with a bound for each org, breakers, the limits that the
provider told of, and the budget of repeats.

An attempt is let in before anything is held for it: nobody waits here, or is told that a provider
is away, with a part of the org's budget in hand. State is one replica's, and bounded; with it goes
nothing but what the next few calls find out again.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import InvalidInput, ProviderUnavailable
from tenantplane.core.turns import Turn, Turns
from tenantplane.dataplane.models import provider_errors
from tenantplane.dataplane.models.attempts import RetryPolicy
from tenantplane.dataplane.models.breaker import Breaker, BreakerRules, Breakers, Outcome
from tenantplane.dataplane.models.provider_settings import ProviderSettings
from tenantplane.dataplane.models.retry_budget import RetryBudget

_log = logging.getLogger(__name__)

# Some 400 bytes each.
MOST_ORGS: Final = 10_000
MOST_LIMITED_MODELS: Final = 1_000


@dataclass(slots=True)
class Entry:
    """An attempt that was let in; `Guard.leave` exactly once."""

    turn: Turn
    of_org: Breaker
    org_trial: bool
    trial: bool

    @property
    def is_trial(self) -> bool:
        return self.org_trial or self.trial


class Guard:
    """Pool, breakers, known limits and budget of one provider. `elapsed` counts seconds."""

    def __init__(
        self,
        provider: str,
        settings: ProviderSettings,
        elapsed: Callable[[], float],
    ) -> None:
        self.policy = RetryPolicy(settings.retries, settings.repeat_billed_calls)
        self.budget = RetryBudget(settings.retry_budget_percent)
        self._provider = provider
        self._elapsed = elapsed
        rules = BreakerRules(
            failure_percent=settings.breaker_failure_percent,
            least_calls=settings.breaker_least_calls,
            window_seconds=settings.breaker_window_seconds,
            open_seconds=settings.breaker_open_seconds,
        )
        # Of each org, since its own models and prompts may be what fails; and one of all, which
        # opens where no connection stands.
        self._of_orgs = Breakers(rules, MOST_ORGS)
        self._of_all = Breaker(rules)
        self._model_map = settings.model_map
        # The provider's name of a model → when it may be asked again, as the provider said with its 429.
        self._limited: OrderedDict[str, float] = OrderedDict()
        self._turns = Turns(
            each=settings.connections_per_org,
            at_once=settings.connections,
            wait_seconds=settings.queue_seconds,
            busy=provider_errors.busy,
        )

    async def enter(self, org_id: str, grant: ModelGrant) -> Entry:
        """Raises ProviderUnavailable: limited, paused, or no turn in time. Nothing was asked."""
        of_org = self._of_orgs.of(org_id)
        self._require_open(of_org, grant)
        turn = self._turns.take_free(org_id)
        if turn is None:
            turn = await self._turns.take(org_id)
            try:
                self._require_open(of_org, grant)
            except ProviderUnavailable:
                turn.give_back()
                raise
        now = self._elapsed()
        return Entry(turn, of_org, of_org.begin(now), self._of_all.begin(now))

    def answers(self, org_id: str, entry: Entry) -> None:
        """The answer has begun. A trial need not wait for the end of a long stream to tell."""
        if entry.is_trial:
            self._end(org_id, entry, Outcome.SUCCESS, Outcome.SUCCESS)
            entry.org_trial = entry.trial = False

    def leave(
        self, org_id: str, grant: ModelGrant, entry: Entry, error: BaseException | None
    ) -> None:
        """The attempt ended, in `error` or well."""
        entry.turn.give_back()
        if error is None:
            self._end(org_id, entry, Outcome.SUCCESS, Outcome.SUCCESS)
            return
        self._remember_limit(grant, error)
        self._end(org_id, entry, _outcome_for_org(error), _outcome_for_all(error))

    def _end(self, org_id: str, entry: Entry, for_org: Outcome, for_all: Outcome) -> None:
        now = self._elapsed()
        if entry.of_org.end(now, for_org, trial=entry.org_trial):
            self._tell(entry.of_org, f"org {org_id}")
        if self._of_all.end(now, for_all, trial=entry.trial):
            self._tell(self._of_all, "all orgs")

    def _tell(self, breaker: Breaker, who: str) -> None:
        what = "paused: too many calls failed" if breaker.is_open else "asked again"
        _log.warning("provider %s is %s, for %s", self._provider, what, who)

    def _require_open(self, of_org: Breaker, grant: ModelGrant) -> None:
        if not (of_org.is_open or self._of_all.is_open or self._limited):
            return
        now = self._elapsed()
        wait = max(of_org.wait_seconds(now), self._of_all.wait_seconds(now))
        if wait > 0:
            raise provider_errors.paused(grant, wait)
        until = self._limited.get(self._model(grant), now)
        if until > now:
            raise provider_errors.limited(grant, until - now)

    def _remember_limit(self, grant: ModelGrant, error: BaseException) -> None:
        """A 429 that names no time says nothing about the next call: it may be this prompt's size."""
        if not isinstance(error, ProviderUnavailable) or error.told_seconds is None:
            return
        if error.error_code == provider_errors.RATE_LIMITED:
            model, until = self._model(grant), self._elapsed() + error.told_seconds
            self._limited[model] = max(self._limited.get(model, until), until)
            self._limited.move_to_end(model)
            if len(self._limited) > MOST_LIMITED_MODELS:
                self._limited.popitem(last=False)

    def _model(self, grant: ModelGrant) -> str:
        return self._model_map.get(grant.upstream_model, grant.upstream_model)


def _outcome_for_org(error: BaseException) -> Outcome:
    if _refused(error):
        return Outcome.SUCCESS
    if not isinstance(error, ProviderUnavailable):
        return Outcome.NOTHING  # the caller left, or it was ours: a cap, a store, a fault
    if error.error_code == provider_errors.RATE_LIMITED and error.told_seconds is not None:
        return Outcome.NOTHING  # known by itself, until the time it told
    return Outcome.FAILURE


def _outcome_for_all(error: BaseException) -> Outcome:
    if _refused(error):
        return Outcome.SUCCESS
    if not isinstance(error, ProviderUnavailable):
        return Outcome.NOTHING
    if error.error_code == provider_errors.UNREACHABLE:
        return Outcome.FAILURE
    # A time-out says that something took long, perhaps this org's own request.
    return Outcome.NOTHING if error.error_code == provider_errors.TIMED_OUT else Outcome.SUCCESS


def _refused(error: BaseException) -> bool:
    """The provider answered that this request is not to its liking: it is well."""
    return isinstance(error, InvalidInput) and error.error_code == provider_errors.REFUSED
