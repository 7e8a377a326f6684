"""Security events: one structured line each, on a logger of their own, never with a secret."""

from __future__ import annotations

import logging

_log = logging.getLogger("tenantplane.security")


def security_event(event: str, **facts: str | int) -> None:
    """`event` is a fixed word such as `enrolment_token_replayed`; `facts` name who and where."""
    _log.warning("security event: %s", event, extra={"event": event, **facts})
