"""Audit records: sealed whole, opened only as what was committed to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tenantplane.core.audit.content import content_of
from tenantplane.core.audit.record import (
    AuditRecord,
    RecordToSeal,
    canonical,
    entry_of,
    open_sealed,
    seal,
)
from tenantplane.core.errors import Forbidden
from tenantplane.core.ids import new_id
from tenantplane.core.keys.envelope import DataKey, associated_data, new_data_key
from tests.unit.core.audit.test_content import any_json

KEY = DataKey(new_data_key())


FIELDS: dict[str, Any] = {
    "record_id": new_id(),
    "org_id": "acme",
    "user_id": "alice",
    "run_id": new_id(),
    "thread_id": "t-1",
    "call_no": 0,
    "kind": "model",
    "resource": "gpt-test",
    "occurred_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "status": "completed",
    "request": content_of([{"role": "user", "content": "hello"}]),
    "response": content_of({"content": "hi"}),
}


def _record(**changes: Any) -> RecordToSeal:
    return RecordToSeal(**FIELDS | changes)


_times = st.datetimes(
    datetime(2020, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))])
)
_ids = st.none() | st.text()


@given(any_json, any_json, _times, st.text(), _ids)
def test_what_is_sealed_opens_as_it_was(
    request: Any, response: Any, at: datetime, user: str, thread: str | None
) -> None:
    record = _record(
        record_id=new_id(),
        request=content_of(request),
        response=content_of(response),
        occurred_at=at,
        user_id=user,
        thread_id=thread,
    )
    sealed = seal(record, KEY)
    opened = open_sealed("acme", sealed, KEY)
    assert rfc8785.dumps(opened.model_dump(mode="json")) == canonical(record)
    assert len(sealed.entry) == 32


def test_the_entry_is_the_formula_of_the_design() -> None:
    record = _record()
    sealed = seal(record, KEY)
    associated = associated_data("audit_record", "acme", str(record.record_id))
    salted = KEY.decrypt(sealed.ciphertext, associated)
    assert salted[32:] == canonical(record)
    inner = hashlib.sha256(salted).digest()
    assert sealed.entry == hashlib.sha256(sealed.ciphertext + inner).digest()
    assert seal(record, KEY).entry != sealed.entry, "the salt is fresh"


def test_the_canonical_form_is_one_for_one_moment() -> None:
    record_id, run_id = new_id(), new_id()
    here = datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    one = _record(record_id=record_id, run_id=run_id)
    other = _record(record_id=record_id, run_id=run_id, occurred_at=here)
    assert canonical(one) == canonical(other)
    assert json.loads(canonical(one))["occurred_at"] == "2026-01-02T03:04:05Z"
    assert b"\n" not in canonical(one)


def test_another_record_org_or_key_does_not_open() -> None:
    sealed = seal(_record(), KEY)
    with pytest.raises(Forbidden):
        open_sealed("globex", sealed, KEY)
    with pytest.raises(Forbidden):
        open_sealed("acme", replace(sealed, record_id=new_id()), KEY)
    with pytest.raises(Forbidden):
        open_sealed("acme", sealed, DataKey(new_data_key()))
    with pytest.raises(Forbidden):
        open_sealed("acme", replace(sealed, ciphertext=sealed.ciphertext[:-1]), KEY)


def test_a_record_written_anew_under_the_right_key_is_not_what_was_committed() -> None:
    record = _record()
    committed = seal(record, KEY)
    rewritten = seal(replace(record, response=content_of("something else")), KEY)
    with pytest.raises(Forbidden) as refused:
        open_sealed("acme", replace(rewritten, entry=committed.entry), KEY)
    assert refused.value.error_code == "entry_refused"


def test_an_entry_over_what_is_no_record_of_this_org_is_refused() -> None:
    record = _record(org_id="globex")
    associated = associated_data("audit_record", "acme", str(record.record_id))
    for plaintext in (canonical(record), rfc8785.dumps({"org_id": "acme"}), b"not JSON"):
        salted = bytes(32) + plaintext
        ciphertext = KEY.encrypt(salted, associated)
        forged = replace(
            seal(record, KEY), ciphertext=ciphertext, entry=entry_of(ciphertext, salted)
        )
        with pytest.raises(Forbidden) as refused:
            open_sealed("acme", forged, KEY)
        assert refused.value.error_code == "entry_refused"


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": None},
        {"call_no": None},
        {"call_no": -1},
        {"org_id": "Not A Label"},
        {"occurred_at": datetime(2026, 1, 1)},
        {"kind": "other"},
        {"surprise": 1},
        {"request": object()},
    ],
)
def test_a_malformed_record_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AuditRecord(**FIELDS | {"request": None, "response": None} | change)


@pytest.mark.parametrize(
    "change", [{"run_id": None}, {"call_no": None}, {"occurred_at": datetime(2026, 1, 1)}]
)
def test_what_no_reader_would_take_is_not_sealed(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"run_id|time zone"):
        _record(**change)


def test_an_administrative_act_has_no_run() -> None:
    assert _record(kind="admin", run_id=None, call_no=None, thread_id=None).run_id is None


def test_content_does_not_show_in_a_repr_of_what_is_stored() -> None:
    sealed = seal(_record(), KEY)
    assert repr(sealed.ciphertext) not in repr(sealed)
    assert "hello" not in repr(_record())
