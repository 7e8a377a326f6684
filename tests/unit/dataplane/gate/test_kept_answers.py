"""What becomes of a request by its answer, and the form in which answers are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tenantplane.core.errors import Forbidden, InvalidInput
from tenantplane.core.ids import new_id
from tenantplane.core.keys.envelope import DataKey, new_data_key
from tenantplane.dataplane.gate.idempotency import idempotency_key
from tenantplane.dataplane.gate.kept_answers import CALLS_FIELD, Fate, KeptAnswer, fate, open_answer
from tenantplane.dataplane.ledger.requests import Claim, RequestKey

KEY = RequestKey("acme", "user:a|b", "/v1/chat/completions", "key|1")
CLAIM = Claim(KEY, b"f" * 32, new_id())


@pytest.mark.parametrize(
    ("status", "called", "expected"),
    [
        (200, True, Fate.KEPT),
        (201, False, Fate.KEPT),  # a document that needed no call is there all the same
        (400, False, Fate.RELEASED),
        (402, False, Fate.RELEASED),
        (402, True, Fate.KEPT),  # an agent that was halted after its first calls
        (429, False, Fate.RELEASED),
        (500, False, Fate.KEPT),
        (503, False, Fate.RELEASED),
        (503, True, Fate.KEPT),
    ],
)
def test_a_refusal_before_the_first_call_releases_the_key(
    status: int, called: bool, expected: Fate
) -> None:
    assert fate(status, [(CALLS_FIELD, b"1")] if called else []) is expected


def test_an_answer_is_given_again_as_it_was() -> None:
    key = DataKey(new_data_key())
    fields = [
        (b"content-type", b"text/event-stream"),
        (b"content-length", b"7"),
        (b"ratelimit", b'"org";r=1'),
        (b"set-cookie", b"no"),
        (b"x-tenantplane-run-id", b"1"),
    ]
    sealed = KeptAnswer.of(200, fields, b"data\n\n\xff").seal(CLAIM, key)
    opened = open_answer(sealed, KEY, CLAIM.run_id, key)
    assert (opened.status, opened.body) == (200, b"data\n\n\xff")
    assert opened.replayed() == [
        (b"content-type", b"text/event-stream"),
        (b"x-tenantplane-run-id", b"1"),
        (b"content-length", b"7"),
        (b"idempotent-replayed", b"true"),
    ]


@pytest.mark.fault("F60")
@pytest.mark.parametrize("field", ["org_id", "principal", "route", "key", "run_id"])
def test_a_kept_answer_opens_in_its_own_row_alone(field: str) -> None:
    key = DataKey(new_data_key())
    sealed = KeptAnswer.of(200, [], b"secret").seal(CLAIM, key)
    moved, run_id = KEY, new_id()
    if field != "run_id":
        moved, run_id = replace(KEY, **{field: "other"}), CLAIM.run_id
    with pytest.raises(Forbidden, match="does not open"):
        open_answer(sealed, moved, run_id, key)


def _scope(*keys: bytes, method: str = "POST") -> dict[str, object]:
    return {"method": method, "headers": [(b"idempotency-key", key) for key in keys]}


def test_keys_are_one_to_255_printable_characters() -> None:
    assert idempotency_key(_scope()) is None
    assert idempotency_key(_scope(b"x" * 255)) == "x" * 255
    assert idempotency_key(_scope(b'"a key"')) == '"a key"'
    assert idempotency_key(_scope(b"\x00", method="GET")) is None


@pytest.mark.parametrize(
    "keys",
    [(b"",), (b"x" * 256,), (b"a\tb",), ("ключ".encode(),), (b"a", b"a")],
    ids=["empty", "long", "tab", "not ASCII", "two"],
)
def test_other_keys_are_refused(keys: tuple[bytes, ...]) -> None:
    with pytest.raises(InvalidInput, match="Idempotency-Key"):
        idempotency_key(_scope(*keys))
