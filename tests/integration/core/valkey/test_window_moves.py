"""A window that moves on counts what a plain sum over its buckets counts, answer by answer."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import pytest

from tenantplane.core.valkey.answers import Admitted, Settled
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import Level, Stage
from tests.fixtures.valkey import SESSION_EPOCH
from tests.integration.core.valkey.builders import request

BUCKETS = 30
TTL_SECONDS = 60
ADMISSIONS = 250


@dataclass
class Counted:
    """One request, in the bucket of the server's time when it was admitted."""

    bucket: int
    tokens: int


def expected(counted: list[Counted], now_ms: int, width_ms: int) -> tuple[int, int, int, int]:
    """Requests, tokens, and when the oldest of both leave, by the definition in lua/window.lua."""
    window_ms = BUCKETS * width_ms
    inside = [one for one in counted if (one.bucket + 1) * width_ms > now_ms - window_ms]
    with_tokens = {
        bucket
        for bucket in {one.bucket for one in inside}
        if any(one.tokens for one in inside if one.bucket == bucket)
    }

    def left(bucket: int) -> int:
        return (bucket + 1) * width_ms + window_ms - now_ms

    return (
        len(inside),
        sum(one.tokens for one in inside),
        left(min(one.bucket for one in inside)),
        left(min(with_tokens)) if with_tokens else 0,
    )


@pytest.mark.parametrize("width_ms", [1, 3, 10])
async def test_counts_and_resets_are_those_of_the_buckets_that_the_window_touches(
    admission_store: AdmissionStore, installed_root: str, width_ms: int
) -> None:
    """Amounts are corrected later, within the bucket, after it has closed, and after it has left."""
    dice = random.Random(width_ms)
    level = Level("org", "acme", requests_per_window=10**6, tokens_per_window=10**6)
    counted: list[Counted] = []
    unsettled: list[tuple[str, Counted]] = []
    for _ in range(ADMISSIONS):
        tokens = dice.choice([0, 0, dice.randint(1, 50)])
        hold = request(
            installed_root,
            level,
            tokens=tokens,
            ttl_seconds=TTL_SECONDS,
            window_ms=BUCKETS * width_ms,
        )
        answer = await admission_store.admit(hold)
        assert isinstance(answer, Admitted)
        now_ms = answer.deadline_unix_ms - TTL_SECONDS * 1000
        counted.append(Counted(now_ms // width_ms, tokens))
        unsettled.append((hold.hold_id, counted[-1]))
        (use,) = answer.windows
        seen = (use.requests, use.tokens, use.requests_reset_ms, use.tokens_reset_ms)
        assert seen == expected(counted, now_ms, width_ms)
        if dice.random() < 0.6:
            hold_id, one = unsettled.pop(dice.randrange(max(0, len(unsettled) - 9), len(unsettled)))
            one.tokens = dice.choice([0, dice.randint(1, 50)])
            settled = await admission_store.settle(
                installed_root, SESSION_EPOCH, hold_id, Stage.ACTUAL, 0, one.tokens
            )
            assert isinstance(settled, Settled)
        if dice.random() < 0.05:
            await asyncio.sleep(dice.random() * 40 * width_ms / 1000)  # past some buckets, or all
