"""A root begins an epoch with what Postgres knows, once."""

import asyncio
import secrets

import pytest

from tenantplane.core.valkey.answers import (
    Admitted,
    AlreadyInstalled,
    AlreadySettled,
    EpochLost,
    Installed,
    NoHold,
    NotInstalled,
    Reason,
    Refused,
    Settled,
    Stale,
)
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import (
    Installation,
    InstalledHold,
    SettledAmount,
    Stage,
)
from tests.fixtures.valkey import SESSION_EPOCH
from tests.integration.core.valkey.builders import (
    END,
    month,
    only,
    org,
    request,
    says_in_its_log,
    slot_of,
)

SLOT = slot_of(org(), month())


@pytest.fixture
def root() -> str:
    """A root that is not installed."""
    return f"root-{secrets.token_hex(6)}"


def open_hold(hold_id: str, nanousd: int, *, estimated: bool = False) -> InstalledHold:
    return InstalledHold(hold_id, nanousd, END, (SLOT,), estimated)


async def test_nothing_is_done_before_the_install(
    admission_store: AdmissionStore, root: str
) -> None:
    args = (root, SESSION_EPOCH)
    assert await admission_store.admit(request(root, org())) == NotInstalled()
    assert await admission_store.settle(*args, "h", Stage.ACTUAL, 1) == NotInstalled()
    assert await admission_store.expired(*args) == NotInstalled()
    assert await admission_store.spend(*args, [org()]) == NotInstalled()


async def test_settled_amounts_and_open_holds_count_from_the_first_admission(
    admission_store: AdmissionStore, root: str
) -> None:
    installation = Installation(
        root,
        SESSION_EPOCH,
        settled=[SettledAmount(SLOT, 50)],
        holds=[open_hold("a", 20), open_hold("b", 10)],
    )
    assert await admission_store.install(installation) == Installed()
    refused = await admission_store.admit(request(root, org(100), hold_nanousd=21))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.used) == (Reason.HARD_CAP, 80)
    assert isinstance(
        await admission_store.admit(request(root, org(100), hold_nanousd=20)), Admitted
    )
    assert await admission_store.settle(root, SESSION_EPOCH, "a", Stage.ACTUAL, 5) == Settled(5)
    account = only(await admission_store.spend(root, SESSION_EPOCH, [org()]))
    assert (account.settled_nanousd, account.held_nanousd) == (55, 30)


async def test_an_installed_estimate_waits_for_the_actual_amount(
    admission_store: AdmissionStore, root: str
) -> None:
    installation = Installation(
        root,
        SESSION_EPOCH,
        settled=[SettledAmount(SLOT, 50)],
        holds=[open_hold("e", 50, estimated=True)],
    )
    await admission_store.install(installation)
    repeat = await admission_store.settle(root, SESSION_EPOCH, "e", Stage.ESTIMATED, 50)
    assert repeat == AlreadySettled("estimated", 50)
    assert await admission_store.settle(root, SESSION_EPOCH, "e", Stage.ACTUAL, 30) == Settled(-20)
    account = only(await admission_store.spend(root, SESSION_EPOCH, [org()]))
    assert (account.settled_nanousd, account.held_nanousd) == (30, 0)


async def test_a_second_install_changes_nothing(admission_store: AdmissionStore, root: str) -> None:
    await admission_store.install(Installation(root, SESSION_EPOCH))
    spent = request(root, org(), hold_nanousd=40)
    await admission_store.admit(spent)
    late = Installation(root, SESSION_EPOCH, settled=[SettledAmount(SLOT, 999)])
    assert await admission_store.install(late) == AlreadyInstalled()
    account = only(await admission_store.spend(root, SESSION_EPOCH, [org()]))
    assert (account.settled_nanousd, account.held_nanousd) == (0, 40)


async def test_of_installs_at_once_one_counts(admission_store: AdmissionStore, root: str) -> None:
    installation = Installation(root, SESSION_EPOCH, settled=[SettledAmount(SLOT, 7)])
    answers = await asyncio.gather(*(admission_store.install(installation) for _ in range(20)))
    assert answers.count(Installed()) == 1
    account = only(await admission_store.spend(root, SESSION_EPOCH, [org()]))
    assert account.settled_nanousd == 7


@pytest.mark.parametrize("epoch", [SESSION_EPOCH - 1, SESSION_EPOCH + 1])
async def test_an_install_of_another_epoch_is_refused(
    admission_store: AdmissionStore, root: str, epoch: int
) -> None:
    assert await admission_store.install(Installation(root, epoch)) == EpochLost(SESSION_EPOCH)
    assert await admission_store.admit(request(root, org())) == NotInstalled()


async def test_known_snapshot_versions_are_installed_too(
    admission_store: AdmissionStore, root: str
) -> None:
    await admission_store.install(Installation(root, SESSION_EPOCH, snapshot_versions={"acme": 5}))
    assert await admission_store.admit(request(root, org(), snapshot_version=4)) == Stale(5)


async def test_a_hold_twice_in_an_install_is_refused_and_the_root_stays_closed(
    admission_store: AdmissionStore, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    twice = Installation(root, SESSION_EPOCH, holds=[open_hold("a", 20), open_hold("a", 20)])
    with says_in_its_log(caplog, "holds[1] is there twice"):
        await admission_store.install(twice)
    accounts = Installation(root, SESSION_EPOCH, settled=[SettledAmount(SLOT, 1)] * 2)
    with says_in_its_log(caplog, "settled[1] names the account of another"):
        await admission_store.install(accounts)
    assert await admission_store.admit(request(root, org())) == NotInstalled()


async def test_ten_thousand_open_holds_are_installed_at_once(
    admission_store: AdmissionStore, root: str
) -> None:
    holds = [open_hold(f"h{number}", 3) for number in range(10_000)]
    assert (
        await admission_store.install(Installation(root, SESSION_EPOCH, holds=holds)) == Installed()
    )
    account = only(await admission_store.spend(root, SESSION_EPOCH, [org()]))
    assert account.held_nanousd == 30_000
    settled = await admission_store.settle(root, SESSION_EPOCH, "h9999", Stage.ACTUAL, 1)
    assert settled == Settled(1)
    assert await admission_store.settle(root, SESSION_EPOCH, "x", Stage.ACTUAL, 1) == NoHold()
