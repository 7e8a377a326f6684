"""Logs: one JSON object a line, with its subject, and no secret in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.ids import new_api_key
from tenantplane.core.keys.signing import SigningKey
from tenantplane.core.telemetry.logging import (
    about,
    configure,
    json_of_known,
    json_text,
    write_members,
)
from tenantplane.core.telemetry.redaction import MAX_CHARACTERS, REDACTED, redact

log = logging.getLogger("tests.telemetry")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    configure("test-service", "INFO", out)
    yield out
    root.handlers[:] = handlers
    root.setLevel(level)


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_line_whatever_it_says(stream: io.StringIO) -> None:
    # Straight to our handler: pytest's own cannot report a lone surrogate to its other process.
    record = log.makeRecord(
        log.name,
        logging.INFO,
        __file__,
        1,
        "first\nsecond\u2028third %s",
        ("\ud800",),
        None,
        extra={"amount_nanousd": 5, "nested": {"a": [1]}},
    )
    (ours,) = (h for h in logging.getLogger().handlers if getattr(h, "stream", None) is stream)
    ours.handle(record)
    (line,) = _lines(stream)
    assert line["message"] == "first\nsecond\u2028third \ud800"
    assert line["service"] == "test-service"
    assert line["level"] == "info"
    assert line["logger"] == "tests.telemetry"
    assert line["amount_nanousd"] == 5
    assert line["nested"] == {"a": [1]}
    assert "org_id" not in line


async def test_the_subject_follows_its_task_and_no_other(stream: io.StringIO) -> None:
    async def work(org: str, turn: asyncio.Event, other: asyncio.Event) -> None:
        with about(org_id=org, user_id=f"user-of-{org}"):
            other.set()
            await turn.wait()
            with about(run_id=7, thread_id="t"):
                log.info(org)
        log.info("outside")

    first, second = asyncio.Event(), asyncio.Event()
    await asyncio.gather(work("acme", first, second), work("globex", second, first))
    lines = _lines(stream)
    inside = [line for line in lines if line["message"] != "outside"]
    assert {line["org_id"] for line in inside} == {"acme", "globex"}
    for line in inside:
        assert line["org_id"] == line["message"]
        assert line["user_id"] == f"user-of-{line['message']}"
        assert (line["run_id"], line["thread_id"]) == ("7", "t")
    assert all("org_id" not in line for line in lines if line["message"] == "outside")


def test_extra_cannot_pose_as_another_org(stream: io.StringIO) -> None:
    with about(org_id="acme"):
        log.info("x", extra={"org_id": "globex"})
    assert _lines(stream)[0]["org_id"] == "acme"


SECRETS = [
    new_api_key(),
    SigningKey.generate().sign({"sub": "alice"}, "at+jwt"),
    SigningKey.generate().sign({"sub": "alice"}, "at+jwt").rsplit(".", 1)[0],
    SigningKey.generate().to_pem().decode(),
    "sk-proj-" + "a1B2" * 6,
    "hvs." + "x" * 24,
]


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
def test_no_secret_is_written_by_any_way_in(stream: io.StringIO, secret: str) -> None:
    log.info("key %s", secret)
    log.info("x", extra={"header": f"Bearer {secret}", "list": [{"v": secret}], secret: 1})
    with about(thread_id=secret):
        log.info("x")
    try:
        raise ValueError(f"cannot use {secret}")
    except ValueError:
        log.exception("failed", stack_info=True)
    core = max(secret.replace("-----", "\n").split("\n"), key=len)
    assert core not in stream.getvalue()
    assert REDACTED in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer opaque-value-1", f"Authorization: {REDACTED} {REDACTED}"),
        ("postgresql://app:hunter22@db:5432/data", f"postgresql://app:{REDACTED}@db:5432/data"),
        ("host=db password=hunter22 user=app", f"host=db password={REDACTED} user=app"),
        ('{"client_secret": "abc", "a": 1}', f'{{"client_secret": "{REDACTED}", "a": 1}}'),
        ("grant&subject_token=abc&x=1", f"grant&subject_token={REDACTED}&x=1"),
        ("TENANTPLANE_MASTER_KEY=0011", f"TENANTPLANE_MASTER_KEY={REDACTED}"),
        # What must stay readable:
        (
            "tokens=12 input_tokens: 5 thread acme::0192",
            "tokens=12 input_tokens: 5 thread acme::0192",
        ),
        ("https://issuer.example:8443/a", "https://issuer.example:8443/a"),
    ],
)
def test_what_is_redacted_and_what_is_not(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "name", ["authorization", "api_key", "API-Key", "password", "client_secret", "access_token"]
)
def test_a_value_is_redacted_by_its_name(stream: io.StringIO, name: str) -> None:
    log.info("x", extra={name: "harmless-looking", "headers": {name: ["harmless-looking"]}})
    line = _lines(stream)[0]
    assert line[name] == REDACTED
    assert line["headers"][name] == REDACTED


def test_a_line_that_cannot_be_formatted_does_not_take_its_secret_along(
    stream: io.StringIO,
) -> None:
    class Odd:
        def __str__(self) -> str:
            return "tpk_" + "z" * 43

    log.info("x", extra={"odd": Odd(), "output_tokens": 3, "nan": float("nan")})
    line = _lines(stream)[0]
    assert line["odd"] == REDACTED
    assert line["output_tokens"] == 3


def test_a_long_text_is_cut() -> None:
    assert len(redact("x" * (MAX_CHARACTERS + 1000))) < MAX_CHARACTERS + 10


def test_libraries_that_log_urls_are_quiet(stream: io.StringIO) -> None:
    logging.getLogger("httpx2").info("GET https://x.example/?code=1")
    assert stream.getvalue() == ""


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure("x", "LOUD")


async def test_lines_of_one_turn_are_one_write(stream: io.StringIO) -> None:
    for number in range(3):
        write_members(log, "request", f'"number": {number}')
    assert stream.getvalue() == ""
    await asyncio.sleep(0)
    assert [line["number"] for line in _lines(stream)] == [0, 1, 2]


async def test_such_a_line_looks_like_a_records(stream: io.StringIO) -> None:
    write_members(log, "request", '"number": 1')
    log.info("request", extra={"number": 2})
    ours, records = _lines(stream)
    assert (ours["number"], records["number"]) == (1, 2), "nothing overtakes what waits"
    assert list(ours) == list(records)
    assert ours | {"time": "", "number": 2} == records | {"time": ""}
    assert len(ours["time"]) == len(records["time"])


async def test_what_the_level_leaves_out_is_left_out(stream: io.StringIO) -> None:
    logging.getLogger().setLevel("WARNING")
    write_members(log, "request", '"status": 200')
    await asyncio.sleep(0)
    assert stream.getvalue() == ""


async def test_a_stream_that_is_gone_stops_nothing(stream: io.StringIO) -> None:
    write_members(log, "request", '"status": 200')
    stream.close()
    await asyncio.sleep(0)


@given(st.text(st.characters(exclude_categories=())))
def test_text_is_written_as_in_a_record(text: str) -> None:
    assert json_of_known(text) == json_text(text) == json.dumps(redact(text))
    assert json_text(text).isascii()
