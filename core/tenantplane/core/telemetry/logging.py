"""Structured logs: one JSON object a line on stderr, with the org, user, run and thread (R72).

Code logs with the standard library; `about` says whom it is about, and nothing else has to. What is
written for each request goes by `write_members`: a record of the standard library, redacted and
formatted, costs some 90 us.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Final, TextIO

from tenantplane.core.telemetry.attributes import ORG_ID, RUN_ID, THREAD_ID, USER_ID
from tenantplane.core.telemetry.redaction import redact, redact_value

_EMPTY: Final[Mapping[str, object]] = {}
_subject: ContextVar[Mapping[str, object]] = ContextVar("tenantplane_log_subject", default=_EMPTY)

# What every LogRecord has of its own: all else came as `extra`.
_BUILT_IN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# At INFO these write each request's URL, which may carry a query of someone's.
_CHATTY: Final = ("httpx", "httpx2", "httpcore", "httpcore2")


class Subject:
    """Within it (and in tasks begun within it) each log line carries what is given; what is not
    given stays as it was outside. To be entered once."""

    __slots__ = ("_given", "_token")

    def __init__(self, given: Mapping[str, object]) -> None:
        """`given` by the names of telemetry/attributes.py; made text where a line is written."""
        self._given = given
        self._token: Token[Mapping[str, object]]

    def __enter__(self) -> None:
        self._token = _subject.set({**_subject.get(), **self._given})

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        _subject.reset(self._token)


def about(
    *,
    org_id: str | None = None,
    user_id: str | None = None,
    run_id: object = None,
    thread_id: str | None = None,
) -> Subject:
    """A Subject of what is not None."""
    given = {ORG_ID: org_id, USER_ID: user_id, RUN_ID: run_id, THREAD_ID: thread_id}
    return Subject({name: value for name, value in given.items() if value is not None})


class JsonFormatter(logging.Formatter):
    """Never raises for what it is given: a log line that cannot be written hides a fault."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time_text(record.created),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        line |= {name: redact(str(value)) for name, value in _subject.get().items()}
        for name, value in vars(record).items():
            if name not in _BUILT_IN and name not in line:
                line[redact(name)] = redact_value(name, value)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = redact(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = redact(record.stack_info)
        # ASCII alone: no reader splits lines at U+2028, none chokes on a lone surrogate.
        return json.dumps(line, ensure_ascii=True, default=str)


class JsonHandler(logging.StreamHandler[TextIO]):
    """Records go to the stream at once, lines by `write_members` at the end of the event loop's
    turn, all in one write: what a crash takes is one turn's lines."""

    def __init__(self, service: str, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(JsonFormatter(service))
        self.service = service
        self._lines: list[str] = []

    def write_later(self, line: str) -> None:
        """On a running event loop."""
        self.acquire()  # records of other threads flush, too
        self._lines.append(line)
        first = len(self._lines) == 1
        self.release()
        if first:
            asyncio.get_running_loop().call_soon(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        self.flush()  # nothing overtakes what waits
        super().emit(record)

    def flush(self) -> None:
        self.acquire()
        try:
            lines, self._lines = self._lines, []
            # As of records: a log that cannot be written stops nothing.
            with suppress(OSError, ValueError):
                if lines:
                    self.stream.write("".join(lines))
                super().flush()
        finally:
            self.release()


def write_members(logger: logging.Logger, message: str, members: str) -> None:
    """Writes a line at INFO where `logger` does, on a running event loop.

    `members` are of a JSON object, and trusted: their texts went through `json_text`, or are known
    to hold neither a secret nor what JSON escapes.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    for handler in logging.getLogger().handlers:
        if isinstance(handler, JsonHandler):
            handler.write_later(
                f'{{"time": "{_time_text(time.time())}", "level": "info", '
                f'"service": "{handler.service}", "logger": "{logger.name}", '
                f'"message": "{message}", {members}}}\n'
            )


# Longer ones are of no route, and would let strangers fill the memory.
_LONGEST_KEPT: Final = 256


def json_text(text: str) -> str:
    """The text as JSON, redacted."""
    # ASCII alone: no reader splits lines at U+2028, none chokes on a lone surrogate.
    return json.dumps(redact(text), ensure_ascii=True)


def json_of_known(text: str) -> str:
    """The same of a text that comes again (a path, a user): looked up, since it costs 8 us."""
    return _known(text) if len(text) <= _LONGEST_KEPT else json_text(text)


_known = lru_cache(maxsize=4096)(json_text)


def _time_text(unix: float) -> str:
    """As RFC 3339 has it, in UTC, to the millisecond."""
    second = int(unix)
    return f"{_second_text(second)}.{int((unix - second) * 1000):03d}+00:00"


@lru_cache(maxsize=2)
def _second_text(unix: int) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def configure(service: str, level: str | int = "INFO", stream: TextIO | None = None) -> None:
    """Sends the process's logs to stderr (or `stream`) as JSON, in place of any other handler.
    Raises ValueError for an unknown level."""
    root = logging.getLogger()
    root.setLevel(level)
    root.handlers[:] = [JsonHandler(service, stream or sys.stderr)]
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
