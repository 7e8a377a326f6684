"""Guards and attempts with a clock of the test's own, and calls that fail as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import HttpUrl

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import HardCapReached, InvalidInput, ProviderUnavailable
from tenantplane.dataplane.models import attempts as pauses
from tenantplane.dataplane.models.guard import Guard
from tenantplane.dataplane.models.provider_errors import REFUSED, refusal, timed_out, unreachable
from tenantplane.dataplane.models.provider_settings import ProviderSettings
from tenantplane.dataplane.models.resilience import Attempts, FailedAttempt

Raises = Callable[[ModelGrant], Exception | None]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "FIRST_PAUSE_SECONDS", 0.0)


def model(name: str, provider: str = "a") -> ModelGrant:
    return ModelGrant(
        name=name,
        provider=provider,
        upstream_model=name,
        input_nanousd_per_token=1,
        output_nanousd_per_token=1,
        max_output_tokens=1,
        context_tokens=1,
    )


A, A2, B, C = model("a"), model("a2"), model("b", "b"), model("c", "c")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """Guards of three providers; `call` makes one, and `asked` says who was asked."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.asked: list[str] = []
        self.failed: list[FailedAttempt] = []
        fields = {"base_url": HttpUrl("http://127.0.0.1:9/v1"), "breaker_least_calls": 4}
        of_all = ProviderSettings(**(fields | settings))
        self.guards = {name: Guard(name, of_all, self.clock) for name in "abc"}

    def attempts(
        self, grant: ModelGrant, fallbacks: Sequence[ModelGrant] = (), org_id: str = "acme"
    ) -> Attempts:
        return Attempts(
            self.guards, org_id, grant, lambda: fallbacks, self.failed.append, self.clock
        )

    async def call(
        self,
        raises: Raises,
        grant: ModelGrant = A,
        fallbacks: Sequence[ModelGrant] = (),
        org_id: str = "acme",
    ) -> str:
        async for attempt in self.attempts(grant, fallbacks, org_id):
            with attempt:
                self.asked.append(attempt.grant.name)
                if error := raises(attempt.grant):
                    raise error
                return attempt.grant.name
        raise AssertionError


def well(_: ModelGrant) -> None:
    return None


def away(grant: ModelGrant) -> Exception:
    return refusal(grant, 500, {}, b"", bills_failed_calls=False)


def limited(grant: ModelGrant) -> Exception:
    return refusal(grant, 429, {"retry-after": "7"}, b"", bills_failed_calls=False)


def only(provider: str, raises: Raises) -> Raises:
    return lambda grant: raises(grant) if grant.provider == provider else None


async def test_the_first_attempt_is_the_only_one_where_it_is_answered() -> None:
    bench = Bench()
    assert await bench.call(well, fallbacks=[B]) == "a"
    assert bench.failed == []


async def test_repeats_then_the_next_model_then_the_first_error() -> None:
    bench = Bench(retries=2)
    assert await bench.call(only("a", away), fallbacks=[B]) == "b"
    assert bench.asked == ["a", "a", "a", "b"]
    assert bench.failed == [FailedAttempt("a", "provider_unavailable")] * 3

    bench = Bench(retries=0)
    errors = {"a": unreachable, "b": away}
    with pytest.raises(ProviderUnavailable) as first:
        await bench.call(lambda g: errors[g.provider](g), fallbacks=[B])
    assert first.value.error_code == "provider_unreachable"
    assert bench.asked == ["a", "b"]


async def test_after_a_time_out_nobody_else_is_asked() -> None:
    bench = Bench()
    with pytest.raises(ProviderUnavailable):
        await bench.call(timed_out, fallbacks=[B])
    assert bench.asked == ["a"]
    bench = Bench(repeat_billed_calls=True, retries=1)
    assert await bench.call(only("a", timed_out), fallbacks=[B]) == "b"
    assert bench.asked == ["a", "a", "b"]


async def test_no_repeat_once_a_part_of_the_answer_went_out() -> None:
    bench = Bench()

    async def broken_off() -> None:
        async for attempt in bench.attempts(A, [B]):
            with attempt:
                bench.asked.append(attempt.grant.name)
                attempt.answers()
                raise away(A)

    with pytest.raises(ProviderUnavailable):
        await broken_off()
    assert bench.asked == ["a"]


@pytest.mark.parametrize(
    "error",
    [InvalidInput("not like this", code=REFUSED), HardCapReached("too dear")],
    ids=["refused", "cap"],
)
async def test_what_only_the_next_model_refuses_is_not_the_answer(error: Exception) -> None:
    bench = Bench(retries=0)
    with pytest.raises(ProviderUnavailable):
        await bench.call(lambda g: away(g) if g.provider == "a" else error, fallbacks=[B, C])
    assert bench.asked == ["a", "b"]
    bench = Bench(retries=0)
    with pytest.raises(type(error)):
        await bench.call(lambda _: error, fallbacks=[B])
    assert bench.asked == ["a"]


async def test_the_repeats_of_all_calls_are_bounded() -> None:
    bench = Bench(retries=2, breaker_least_calls=10_000)
    for _ in range(100):
        with pytest.raises(ProviderUnavailable):
            await bench.call(away)
    assert 100 <= len(bench.asked) <= 100 + 10 + 10


@pytest.mark.req("R55")
async def test_a_429_is_honoured_for_that_model_as_long_as_it_says() -> None:
    bench = Bench()
    with pytest.raises(ProviderUnavailable):
        await bench.call(limited)
    bench.clock.now += 2
    for org_id in ("acme", "other"):
        with pytest.raises(ProviderUnavailable) as refused:
            await bench.call(well, org_id=org_id)
        assert refused.value.error_code == "provider_rate_limited"
        assert refused.value.retry_after_seconds == 5
    assert await bench.call(well, fallbacks=[A2]) == "a2"
    assert await bench.call(well, A2) == "a2"
    bench.clock.now += 5
    assert await bench.call(well) == "a"
    assert bench.asked == ["a", "a2", "a2", "a"]


async def test_two_names_of_one_model_share_its_limit() -> None:
    bench = Bench(model_map={"a2": "a"})
    with pytest.raises(ProviderUnavailable):
        await bench.call(limited)
    with pytest.raises(ProviderUnavailable):
        await bench.call(well, A2)
    assert bench.asked == ["a"]


async def test_a_429_that_names_no_time_concerns_its_org_alone() -> None:
    """It may be this prompt's size that is too much: nobody else waits for that."""
    bench = Bench(retries=0)

    def too_large(grant: ModelGrant) -> Exception:
        return refusal(grant, 429, {}, b"", bills_failed_calls=False)

    for _ in range(4):
        with pytest.raises(ProviderUnavailable):
            await bench.call(too_large, org_id="greedy")
    with pytest.raises(ProviderUnavailable, match="left alone"):
        await bench.call(well, org_id="greedy")
    assert await bench.call(well, org_id="acme") == "a"


@pytest.mark.req("R55")
async def test_a_breaker_is_one_orgs_own() -> None:
    bench = Bench(retries=0)
    for _ in range(4):
        with pytest.raises(ProviderUnavailable):
            await bench.call(away, org_id="noisy")
    bench.asked.clear()
    with pytest.raises(ProviderUnavailable) as paused:
        await bench.call(well, org_id="noisy")
    assert paused.value.error_code == "provider_unavailable"
    assert paused.value.retry_after_seconds == 10
    assert bench.asked == []
    assert await bench.call(well, fallbacks=[B], org_id="noisy") == "b"
    assert await bench.call(well, org_id="quiet") == "a"
    bench.clock.now += 10
    assert await bench.call(well, org_id="noisy") == "a"


async def test_without_a_connection_all_orgs_pause() -> None:
    bench = Bench(retries=0)
    for n in range(4):
        with pytest.raises(ProviderUnavailable):
            await bench.call(unreachable, org_id=f"org-{n}")
    with pytest.raises(ProviderUnavailable, match="left alone"):
        await bench.call(well, org_id="another")
    assert await bench.call(well, B, org_id="another") == "b"


async def test_a_trial_tells_with_its_first_piece() -> None:
    bench = Bench(retries=0)
    for _ in range(4):
        with pytest.raises(ProviderUnavailable):
            await bench.call(away)
    bench.clock.now += 10
    async for attempt in bench.attempts(A):
        with attempt:
            with pytest.raises(ProviderUnavailable, match="left alone"):
                await bench.call(well)
            attempt.answers()
            assert await bench.call(well) == "a"
        break


async def test_an_org_waits_for_its_own_turns_alone() -> None:
    bench = Bench(connections=3, connections_per_org=2, queue_seconds=0.02)
    held = [await anext(bench.attempts(A, org_id="noisy")) for _ in range(2)]
    with pytest.raises(ProviderUnavailable) as busy:
        await bench.call(well, org_id="noisy")
    assert busy.value.error_code == "provider_busy"
    assert await bench.call(well, org_id="quiet") == "a"
    assert await bench.call(well, fallbacks=[B], org_id="noisy") == "b"
    for attempt in held:
        with attempt:
            pass
    assert await bench.call(well, org_id="noisy") == "a"


async def test_a_call_that_outlives_its_caller_keeps_its_turn() -> None:
    bench = Bench(connections_per_org=1, queue_seconds=0.02)
    ends = asyncio.Event()
    inner: list[asyncio.Task[bool]] = []

    async def left() -> None:
        async for attempt in bench.attempts(A):
            with attempt:
                inner.append(asyncio.create_task(attempt.to_its_end(ends.wait())))
                await asyncio.shield(inner[0])
            return

    caller = asyncio.create_task(left())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    with pytest.raises(ProviderUnavailable):
        await bench.call(well)
    ends.set()
    await inner[0]
    assert await bench.call(well) == "a"


async def test_nothing_begins_after_the_time_for_it() -> None:
    bench = Bench(retries=5)

    def slow(grant: ModelGrant) -> Exception:
        bench.clock.now += 20
        return away(grant)

    with pytest.raises(ProviderUnavailable):
        await bench.call(slow, fallbacks=[B])
    assert len(bench.asked) == 2
