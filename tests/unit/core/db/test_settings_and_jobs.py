from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from tenantplane.core.db.jobs import registered_jobs, require_registered, system_job
from tenantplane.core.db.pool import pool_share
from tenantplane.core.db.settings import DatabaseSettings


def settings(key: str) -> DatabaseSettings:
    return DatabaseSettings(
        app_dsn=SecretStr("dbname=a password=hidden-word"),
        system_dsn=SecretStr("dbname=a"),
        context_key_id="k1",
        context_key=SecretStr(key),
    )


def test_the_key_is_hex_of_32_bytes_and_is_never_shown() -> None:
    made = settings("0f" * 32)
    assert made.context_key_bytes() == b"\x0f" * 32
    assert "0f0f" not in repr(made)
    assert "hidden-word" not in repr(made)


@pytest.mark.parametrize("key", ["", "0f" * 31, "0f" * 33, "zz" * 32])
def test_another_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValidationError, match="64 hexadecimal digits") as refused:
        settings(key)
    assert not key or key not in str(refused.value)


@pytest.mark.parametrize(("size", "each"), [(1, 1), (2, 2), (3, 2), (5, 4), (10, 8), (200, 160)])
def test_an_org_has_all_of_a_pool_but_a_fifth(size: int, each: int) -> None:
    assert pool_share(size) == each


def test_a_job_is_registered_once_with_its_reason() -> None:
    name = system_job("tests.sweep", "a job of this test")
    assert system_job("tests.sweep", "a job of this test") == name
    require_registered(name)
    assert registered_jobs()[name] == "a job of this test"
    with pytest.raises(ValueError, match="registered already"):
        system_job("tests.sweep", "another")


@pytest.mark.parametrize(("name", "reason"), [("Sweep", "why"), ("a b", "why"), ("tests.x", " ")])
def test_a_job_without_a_name_or_a_reason_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match="job"):
        system_job(name, reason)
