"""Cross-tenant jobs are named: whoever enters `system_tx` says which job it is, and why.

A job is registered where it is written, as a module constant:

    SWEEP = system_job("ledger.sweep", "finds intents of all orgs that are past their deadline")

    async with db.system_tx(SWEEP) as cursor: ...
"""

from __future__ import annotations

import re

_NAME = re.compile(r"[a-z][a-z0-9_.-]{1,47}", re.ASCII)
_registered: dict[str, str] = {}


def system_job(name: str, reason: str) -> str:
    """Registers a job and returns its name. The name is what `pg_stat_activity` shows.

    Raises ValueError for a malformed name, an empty reason, or a name taken for another reason.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: a system job is named like 'ledger.sweep'")
    if not reason.strip():
        raise ValueError(f"system job {name!r} needs a reason to look across tenants")
    if _registered.setdefault(name, reason) != reason:
        raise ValueError(f"system job {name!r} is registered already, for: {_registered[name]}")
    return name


def require_registered(job: str) -> None:
    """Raises LookupError for a job that nobody registered."""
    if job not in _registered:
        raise LookupError(f"{job!r} is not a registered system job: call system_job() for it first")


def registered_jobs() -> dict[str, str]:
    """Name and reason of each cross-tenant job that this process knows."""
    return dict(_registered)
