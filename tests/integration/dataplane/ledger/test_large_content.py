"""One org's long prompts are nobody else's wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import JsonValue

from tenantplane.core.audit import content
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.ledger import closing
from tenantplane.dataplane.ledger.calls import Usage
from tests.fixtures.ledger import Ledger, a_call, a_snapshot, a_tenant

LONG: JsonValue = [{"role": "user", "content": "x"} for _ in range(80_000)]


@pytest.fixture
def on_the_loop(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each writing and each sealing: whether the loop's own thread did it."""
    seen: list[bool] = []

    def watched(work: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any) -> Any:
            seen.append(threading.current_thread() is threading.main_thread())
            return work(*args)

        return called

    for module, name in ((content, "_content"), (closing, "seal")):
        monkeypatch.setattr(module, name, watched(getattr(module, name)))
    return seen


@pytest.mark.parametrize(("asked", "beside"), [(LONG, True), ("short", False)])
async def test_long_content_is_written_and_sealed_beside_the_loop(
    ledger: Ledger, new_org: str, on_the_loop: list[bool], asked: JsonValue, beside: bool
) -> None:
    call = await ledger.meter.open(
        a_tenant(new_org), a_snapshot(new_org), a_call(100, audit_request=asked)
    )
    await call.complete(Usage(1, 1, NanoUSD(1)), "short")
    assert on_the_loop == [not beside] * 3  # the request, the response, the record
    assert await ledger.settled_in_postgres(new_org) == 1
