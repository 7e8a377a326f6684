"""The library decides as its specification does, over 100,000 random decisions (R30, R31, R32)."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from pathlib import Path

import pytest

from tenantplane.core.valkey import keys
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import Stage
from tests.fixtures.proofs import ProofCases
from tests.proofs.money import model_checker

ROOT = Path(__file__).parents[3]
PROCESSES = 4
DECISIONS_OF_A_PROCESS = 26_000


async def _checked(seed: str) -> tuple[int | None, str, str]:
    """Exit code and output of one process of the checker."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.proofs.money.model_checker",
        "--seed",
        seed,
        "--decisions",
        str(DECISIONS_OF_A_PROCESS),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, errors = await process.communicate()
    return process.returncode, printed.decode(), errors.decode()


@pytest.mark.proof
@pytest.mark.req("R30", "R32", "R36")
@pytest.mark.fault("F38")
async def test_library_and_oracle_agree_on_100000_decisions(proof_cases: ProofCases) -> None:
    seeds = [secrets.token_hex(4) for _ in range(PROCESSES)]
    print("seeds:", *seeds)
    decisions, losses = 0, set()
    for code, printed, errors in await asyncio.gather(*map(_checked, seeds)):
        assert code == 0, (
            f"{errors}\nreplay: python -m tests.proofs.money.model_checker --seed SEED "
            f"--decisions {DECISIONS_OF_A_PROCESS}"
        )
        figures = json.loads(printed)
        decisions += figures["decisions"]
        losses |= set(figures["losses"])
    assert decisions >= 100_000
    assert len(losses) >= 4, f"too few kinds of loss: {losses}"
    proof_cases.add(decisions)


class ForgetfulStore(AdmissionStore):
    """Releases with the wrong number: what was held stays held."""

    async def settle(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        root, epoch, hold_id, stage, nanousd, tokens = args
        if stage is Stage.ACTUAL and isinstance(nanousd, int):
            nanousd += 1
        return await super().settle(root, epoch, hold_id, stage, nanousd, tokens, **kwargs)  # type: ignore[arg-type]


class GenerousStore(AdmissionStore):
    """Gives back a call at a time too many, behind the library's back."""

    async def release(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        answer = await super().release(*args, **kwargs)  # type: ignore[arg-type]
        money, *_ = keys.of_root(str(args[0]), int(str(args[1])))
        for field in await self._redis.hkeys(money):
            if "open:" in str(field):
                await self._redis.hset(money, field, "0")
        return answer


@pytest.mark.proof
@pytest.mark.parametrize("broken", [ForgetfulStore, GenerousStore])
async def test_the_checker_sees_a_wrong_amount_and_a_wrong_count(
    broken: type[AdmissionStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_checker, "AdmissionStore", broken)
    with pytest.raises(model_checker.Violation):
        await model_checker.check("broken", 5_000)
