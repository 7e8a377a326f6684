"""The same Idempotency-Key, route and body of two orgs, through the running planes: neither is given
the other's answer, nor told that the other has it."""

from __future__ import annotations

import secrets
from typing import Any

import httpx2
import pytest

from tests.fixtures.dataplane import Peers, bearer
from tests.fixtures.proofs import ProofCases

pytestmark = pytest.mark.proof

_CHAT: dict[str, Any] = {
    "model": "assistant-1",
    "messages": [{"role": "user", "content": "the combination of the safe"}],
}


@pytest.mark.req("R5", "R6")
@pytest.mark.fault("F22", "F42")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_the_same_request_of_two_orgs_is_two_requests(
    data_plane: Peers, stream: bool, proof_cases: ProofCases
) -> None:
    key = secrets.token_hex(8)
    orgs = [await data_plane.tenant() for _ in range(2)]

    async def ask(secret: str) -> httpx2.Response:
        answer = await data_plane.data.http.post(
            "/v1/chat/completions",
            json=_CHAT | {"stream": stream},
            headers=bearer(secret) | {"idempotency-key": key},
        )
        assert answer.status_code == 200, answer.text
        return answer

    first = [await ask(secret) for _, secret in orgs]
    again = [await ask(secret) for _, secret in orgs]
    assert not any("idempotent-replayed" in answer.headers for answer in first)
    assert all(answer.headers["idempotent-replayed"] == "true" for answer in again)
    assert [a.content for a in again] == [a.content for a in first]
    runs = {answer.headers["x-tenantplane-run-id"] for answer in first + again}
    assert len(runs) == 2
    proof_cases.add(4)
