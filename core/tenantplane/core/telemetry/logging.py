"""Structured logs: one JSON object a line on stderr, with the org, user, run and thread (R72).

Code logs with the standard library; `about` says whom it is about, and nothing else has to.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, TextIO

from tenantplane.core.telemetry.attributes import ORG_ID, RUN_ID, THREAD_ID, USER_ID
from tenantplane.core.telemetry.redaction import redact, redact_value

_EMPTY: Final[Mapping[str, str]] = {}
_subject: ContextVar[Mapping[str, str]] = ContextVar("tenantplane_log_subject", default=_EMPTY)

# What every LogRecord has of its own: all else came as `extra`.
_BUILT_IN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# At INFO these write each request's URL, which may carry a query of someone's.
_CHATTY: Final = ("httpx", "httpx2", "httpcore", "httpcore2")


@contextmanager
def about(
    *,
    org_id: str | None = None,
    user_id: str | None = None,
    run_id: object = None,
    thread_id: str | None = None,
) -> Iterator[None]:
    """Within it (and in tasks begun within it) each log line carries what is given; what is not
    given stays as it was outside."""
    given = {ORG_ID: org_id, USER_ID: user_id, RUN_ID: run_id, THREAD_ID: thread_id}
    added = {name: str(value) for name, value in given.items() if value is not None}
    token = _subject.set({**_subject.get(), **added})
    try:
        yield
    finally:
        _subject.reset(token)


class JsonFormatter(logging.Formatter):
    """Never raises for what it is given: a log line that cannot be written hides a fault."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        line |= {name: redact(value) for name, value in _subject.get().items()}
        for name, value in vars(record).items():
            if name not in _BUILT_IN and name not in line:
                line[redact(name)] = redact_value(name, value)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = redact(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = redact(record.stack_info)
        # ASCII alone: no reader splits lines at U+2028, none chokes on a lone surrogate.
        return json.dumps(line, ensure_ascii=True, default=str)


def configure(service: str, level: str | int = "INFO", stream: TextIO | None = None) -> None:
    """Sends the process's logs to stderr (or `stream`) as JSON, in place of any other handler.
    Raises ValueError for an unknown level."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.setLevel(level)
    root.handlers[:] = [handler]
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
