"""What is kept, and for how long: memory is bounded, and open money is never forgotten."""

import re
import secrets

import pytest

from tenantplane.core.valkey import keys
from tenantplane.core.valkey.answers import Admitted, Placing
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import (
    Installation,
    InstalledHold,
    SettledAmount,
    Slot,
    Stage,
)
from tests.fixtures.valkey import SESSION_EPOCH
from tests.integration.core.valkey.builders import END, START, org, request

DAY_MS = 86_400_000
LONG_OVER = START - 10 * 86_400


async def accounts(store: AdmissionStore, root: str) -> set[str]:
    fields = await store._redis.hkeys(keys.of_root(root, SESSION_EPOCH)[0])
    names = {field.decode() if isinstance(field, bytes) else field for field in fields}
    return {name for name in names if name.startswith(("settled:", "held:"))}


async def test_accounts_of_periods_long_over_are_cleared_but_for_open_holds(
    admission_store: AdmissionStore,
) -> None:
    root = f"root-{secrets.token_hex(6)}"
    closed = Slot("org", "acme", "month", "closed", LONG_OVER)
    still_open = Slot("org", "acme", "month", "open", LONG_OVER)
    installation = Installation(
        root,
        SESSION_EPOCH,
        settled=[SettledAmount(closed, 5), SettledAmount(still_open, 5)],
        holds=[InstalledHold("h", 3, END, (still_open,))],
    )
    await admission_store.install(installation)
    await admission_store.admit(request(root, org(), hold_nanousd=1))
    assert await accounts(admission_store, root) == {
        "settled:org:month:open:acme",
        "held:org:month:open:acme",
        "held:org:month:current:acme",
    }
    assert isinstance(await admission_store.admit(request(root, org(), hold_nanousd=1)), Admitted)


@pytest.mark.parametrize(
    ("stage", "least_ms", "most_ms"),
    [
        (Stage.ACTUAL, 590_000, 600_000),
        (Stage.ESTIMATED, 2 * DAY_MS - 10_000, 2 * DAY_MS),
        (Stage.RELEASED, 2 * DAY_MS - 10_000, 2 * DAY_MS),
    ],
)
async def test_a_hold_that_is_over_is_remembered_as_long_as_it_may_change(
    admission_store: AdmissionStore, installed_root: str, stage: Stage, least_ms: int, most_ms: int
) -> None:
    hold = request(installed_root, org(), hold_nanousd=1)
    await admission_store.admit(hold)
    key = keys.of_hold(installed_root, hold.hold_id, SESSION_EPOCH)
    open_ms = await admission_store._redis.pttl(key)
    assert 5 * DAY_MS < open_ms < 6 * DAY_MS
    await admission_store.settle(installed_root, SESSION_EPOCH, hold.hold_id, stage, 0)
    assert least_ms < await admission_store._redis.pttl(key) <= most_ms


async def test_every_key_matches_its_pattern_and_expires(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    await admission_store.admit(request(installed_root, org(), hold_nanousd=1))
    found = [key async for key in admission_store._redis.scan_iter(f"tp:{{{installed_root}}}:*")]
    assert len(found) == 4  # money, deadlines, due, hold
    for key in found:
        assert any(re.match(pattern, key.decode()) for pattern in keys.PATTERNS.values())
        assert await admission_store._redis.pttl(key) > 0


async def test_an_enlarged_hold_gets_a_new_deadline(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    first = await admission_store.admit(
        request(installed_root, org(), hold_id="h", hold_nanousd=1, ttl_seconds=60)
    )
    larger = await admission_store.admit(
        request(installed_root, org(), hold_id="h", hold_nanousd=2, ttl_seconds=600)
    )
    again = await admission_store.admit(
        request(installed_root, org(), hold_id="h", hold_nanousd=2, ttl_seconds=9000)
    )
    assert isinstance(first, Admitted)
    assert isinstance(larger, Admitted)
    assert isinstance(again, Admitted)
    assert larger.deadline_unix_ms >= first.deadline_unix_ms + 540_000
    assert again.placing == Placing.SAME
    assert again.deadline_unix_ms == larger.deadline_unix_ms
