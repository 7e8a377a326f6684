"""Judgements of the catalogue that no server of the tests can be brought to."""

from __future__ import annotations

import pytest

from tenantplane.cli.doctor import Verdict, verdicts_of
from tenantplane.core.db.doctor import CHECKS, Finding, judge_context_key, judge_tables

SOUND = {
    "subject": "public.note",
    "is_tenant_table": True,
    "org_id_required": True,
    "org_id_has_default": False,
    "org_id_is_plain": True,
    "rls_enabled": True,
    "rls_forced": True,
    "owned_by_other": False,
    "open_to_app": True,
    "open_to_public": False,
    "app_has_more_than_rows": False,
    "granted_to_others": [],
    "open_to_query": False,
    "query_writes": False,
    "reviewed": False,
}


def test_a_collation_that_takes_two_orgs_for_one_is_refused() -> None:
    assert list(judge_tables([SOUND])) == []
    (found,) = judge_tables([SOUND | {"org_id_is_plain": False}])
    assert found.severity == "refuse"
    assert "deterministic collation" in found.message


@pytest.mark.parametrize(
    ("accepted", "seconds_left", "severities"),
    [
        (True, None, []),
        (True, 30.0, ["warn"]),
        (False, None, ["refuse"]),
        (False, -5.0, ["refuse"]),
    ],
)
def test_a_key_that_ends_is_a_warning_and_one_that_ended_a_refusal(
    accepted: bool, seconds_left: float | None, severities: list[str]
) -> None:
    keys: list[dict[str, object]] = [
        {"key_id": "k1", "seconds_left": seconds_left},
        {"key_id": "k0", "seconds_left": 1.0},
    ]
    assert [f.severity for f in judge_context_key("k1", accepted, keys)] == severities


def test_a_refusal_outweighs_a_warning_and_a_wrong_role_skips_the_rest() -> None:
    warn, refuse = Finding("warn", "s", "m", "keys"), Finding("refuse", "s", "m", "keys")
    assert verdicts_of([]) == dict.fromkeys(CHECKS, Verdict.OK)
    assert verdicts_of([refuse, warn])["keys"] is Verdict.REFUSE
    assert verdicts_of([warn])["keys"] is Verdict.WARN
    skipped = verdicts_of([Finding("refuse", "role x", "m", "roles")])
    assert set(skipped.values()) == {Verdict.REFUSE, Verdict.SKIPPED}
