from __future__ import annotations

from tenantplane.dataplane.runtime.proofs import Proofs


def test_a_proof_is_made_anew_after_some_seconds() -> None:
    made: list[str] = []
    now = 100.0

    def make(org_id: str) -> str:
        made.append(org_id)
        return f"{org_id}-{len(made)}"

    proofs = Proofs(make, elapsed=lambda: now)
    assert [proofs.of("a"), proofs.of("b"), proofs.of("a")] == ["a-1", "b-2", "a-1"]
    now += 4.9
    assert proofs.of("a") == "a-1"
    now += 0.2
    assert [proofs.of("b"), proofs.of("b")] == ["b-3", "b-3"]
