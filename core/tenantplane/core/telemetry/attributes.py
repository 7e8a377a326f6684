"""Names under which telemetry says whom and what it is about: in logs now, in spans alike."""

from __future__ import annotations

from typing import Final

ORG_ID: Final = "org_id"
USER_ID: Final = "user_id"
RUN_ID: Final = "run_id"
THREAD_ID: Final = "thread_id"

SUBJECT: Final = (ORG_ID, USER_ID, RUN_ID, THREAD_ID)
