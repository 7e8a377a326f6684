"""Sliding windows of requests and tokens, on the server's clock."""

import asyncio
import time
from dataclasses import replace

import pytest

from tenantplane.core.valkey import keys
from tenantplane.core.valkey.answers import Admitted, Reason, Refused
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import Level, Stage
from tests.fixtures.valkey import SESSION_EPOCH
from tests.integration.core.valkey.builders import month, org, request, says_in_its_log


async def test_requests_past_the_limit_are_refused_until_the_window_has_moved_on(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    level = Level("org", "acme", requests_per_window=2)
    for used in (1, 2):
        admitted = await admission_store.admit(request(installed_root, level))
        assert isinstance(admitted, Admitted)
        (window,) = admitted.windows
        assert (window.requests, window.tokens) == (used, 0)
        assert (window.requests_limit, window.tokens_limit) == (2, None)
        assert 58_000 < window.requests_reset_ms <= 62_000
        assert window.tokens_reset_ms == 0
    refused = await admission_store.admit(request(installed_root, level))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.limit, refused.used) == (Reason.REQUESTS, 2, 2)
    assert refused.retry_after_ms is not None
    assert 50_000 < refused.retry_after_ms <= 62_000


async def test_tokens_count_as_well_and_more_than_the_limit_never_fits(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    level = Level("org", "acme", tokens_per_window=100)
    await admission_store.admit(request(installed_root, level, tokens=60))
    refused = await admission_store.admit(request(installed_root, level, tokens=41))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.used) == (Reason.TOKENS, 60)
    never = await admission_store.admit(request(installed_root, level, tokens=101))
    assert isinstance(never, Refused)
    assert never.retry_after_ms is None


async def test_settling_corrects_the_tokens(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    level = Level("org", "acme", tokens_per_window=100, periods=(month(),))
    over = request(installed_root, level, tokens=90, hold_nanousd=1)
    await admission_store.admit(over)
    await admission_store.settle(
        installed_root, SESSION_EPOCH, over.hold_id, Stage.ESTIMATED, 1, 20
    )
    admitted = await admission_store.admit(request(installed_root, level, tokens=1))
    assert isinstance(admitted, Admitted)
    assert admitted.windows[0].tokens == 21
    await admission_store.settle(installed_root, SESSION_EPOCH, over.hold_id, Stage.ACTUAL, 1, 70)
    admitted = await admission_store.admit(request(installed_root, level, tokens=1))
    assert isinstance(admitted, Admitted)
    assert admitted.windows[0].tokens == 72


async def test_releasing_gives_the_tokens_back(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    level = Level("org", "acme", tokens_per_window=100, periods=(month(),))
    hold = request(installed_root, level, tokens=90, hold_nanousd=1)
    await admission_store.admit(hold)
    await admission_store.release(installed_root, SESSION_EPOCH, hold.hold_id)
    admitted = await admission_store.admit(request(installed_root, level, tokens=100))
    assert isinstance(admitted, Admitted)


async def test_an_enlarged_hold_counts_its_further_tokens_and_no_second_request(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    level = Level("org", "acme", 1, 100, (month(),))
    await admission_store.admit(
        request(installed_root, level, hold_id="s", tokens=40, hold_nanousd=1)
    )
    enlarged = await admission_store.admit(
        request(installed_root, level, hold_id="s", tokens=100, hold_nanousd=2)
    )
    assert isinstance(enlarged, Admitted)
    (window,) = enlarged.windows
    assert (window.requests, window.tokens) == (1, 100)
    refused = await admission_store.admit(
        request(installed_root, level, hold_id="s", tokens=101, hold_nanousd=3)
    )
    assert isinstance(refused, Refused)
    assert refused.reason == Reason.TOKENS


async def test_settling_an_enlarged_hold_corrects_all_of_its_tokens(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    level = Level("org", "acme", None, 1000, (month(),))
    hold = request(installed_root, level, tokens=40, hold_nanousd=1)
    await admission_store.admit(hold)
    await admission_store.admit(replace(hold, tokens=100, hold_nanousd=2))
    await admission_store.settle(installed_root, SESSION_EPOCH, hold.hold_id, Stage.ACTUAL, 1, 30)
    admitted = await admission_store.admit(request(installed_root, level, tokens=1))
    assert isinstance(admitted, Admitted)
    assert admitted.windows[0].tokens == 31


async def test_a_full_window_of_one_level_counts_at_no_level(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    wide = Level("org", "acme", requests_per_window=10)
    narrow = Level("user", "u", requests_per_window=1)
    for _ in range(4):
        await admission_store.admit(request(installed_root, wide, narrow))
    admitted = await admission_store.admit(request(installed_root, wide))
    assert isinstance(admitted, Admitted)
    assert admitted.windows[0].requests == 2


async def test_no_interval_of_the_windows_length_sees_more_than_the_limit(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    """Hammered for five windows: of each limit+1 admissions in a row, the last one comes later
    than a window after the first, measured around the calls so that no delay can hide a breach."""
    limit, window_ms = 5, 300
    level = Level("org", "acme", requests_per_window=limit)
    admitted: list[tuple[float, float]] = []
    end = time.monotonic() + 5 * window_ms / 1000
    while time.monotonic() < end:
        before = time.monotonic()
        answer = await admission_store.admit(request(installed_root, level, window_ms=window_ms))
        if isinstance(answer, Admitted):
            admitted.append((before, time.monotonic()))
    assert len(admitted) >= 3 * limit
    for first, beyond in zip(admitted, admitted[limit:], strict=False):
        assert beyond[1] - first[0] > window_ms / 1000


async def test_retry_after_is_when_the_request_passes(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    level = Level("org", "acme", requests_per_window=1)
    await admission_store.admit(request(installed_root, level, window_ms=300))
    refused = await admission_store.admit(request(installed_root, level, window_ms=300))
    assert isinstance(refused, Refused)
    assert refused.retry_after_ms is not None
    await asyncio.sleep(refused.retry_after_ms / 1000)  # what a polite client does
    again = await admission_store.admit(request(installed_root, level, window_ms=300))
    assert isinstance(again, Admitted)


async def test_empty_windows_are_cleared_and_memory_stays_bounded(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    for user in range(40):
        level = Level("user", f"u{user}", requests_per_window=1)
        await admission_store.admit(request(installed_root, level, window_ms=30))
    money, _, due = keys.of_root(installed_root, SESSION_EPOCH)
    fields = 40
    end = time.monotonic() + 10
    while fields > 1 and time.monotonic() < end:
        level = Level("user", "last", requests_per_window=1_000_000)
        await admission_store.admit(request(installed_root, level, window_ms=30))
        names = await admission_store._redis.hkeys(money)
        fields = sum("window:" in str(name) for name in names)
    assert fields <= 1
    assert await admission_store._redis.zcard(due) == fields


@pytest.mark.parametrize("window_ms", [29, 31, 60_001])
async def test_a_window_that_cannot_be_cut_evenly_is_an_error(
    admission_store: AdmissionStore,
    installed_root: str,
    window_ms: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with says_in_its_log(caplog, "multiple of 30"):
        await admission_store.admit(request(installed_root, org(), window_ms=window_ms))
