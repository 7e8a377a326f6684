"""Keys of the admission store; only the client builds them.

The root org is the hash tag, so that all keys of one call share a slot of a Redis Cluster. The
epoch is the last part: a new epoch starts with no key at all, and those of old ones expire.
"""

from __future__ import annotations

import re
from functools import lru_cache

from tenantplane.core.ids import is_org_id

# hash: installed marker, snapshot versions, accounts, sliding windows, calls at a time
MONEY = "tp:{%s}:money:%d"
DEADLINES = "tp:{%s}:deadlines:%d"  # sorted set: open holds by deadline
DUE = "tp:{%s}:due:%d"  # sorted set: accounts and windows by when they may be forgotten
HOLD = "tp:{%s}:hold:%s:%d"  # string: one hold

# Every key that exists matches one of these (RE2 and Python syntax); proof suites enumerate them.
_ROOT = r"\{[a-z]([-a-z0-9]{0,38}[a-z0-9])?\}"
PATTERNS: dict[str, str] = {
    "money": rf"^tp:{_ROOT}:money:[0-9]+$",
    "deadlines": rf"^tp:{_ROOT}:deadlines:[0-9]+$",
    "due": rf"^tp:{_ROOT}:due:[0-9]+$",
    "hold": rf"^tp:{_ROOT}:hold:[A-Za-z0-9_-]{{1,80}}:[0-9]+$",
}

_HOLD_ID = re.compile(r"[A-Za-z0-9_-]{1,80}", re.ASCII)


def is_hold_id(text: str) -> bool:
    return _HOLD_ID.fullmatch(text) is not None


# The same few roots come with every call.
@lru_cache(maxsize=10_000)
def of_root(root_org_id: str, epoch: int) -> tuple[str, str, str]:
    """The three keys of a root, in the order in which the library names them.

    Raises ValueError where the root is no org id: it could point at another root's slot.
    """
    if not is_org_id(root_org_id):
        raise ValueError(f"root_org_id {root_org_id!r} is not an org id")
    return (
        MONEY % (root_org_id, epoch),
        DEADLINES % (root_org_id, epoch),
        DUE % (root_org_id, epoch),
    )


def of_hold(root_org_id: str, hold_id: str, epoch: int) -> str:
    """Raises ValueError where either id could blur the borders between the parts."""
    of_root(root_org_id, epoch)
    if not is_hold_id(hold_id):
        raise ValueError(f"hold_id {hold_id!r} is not 1 to 80 letters, digits, '-' or '_'")
    return HOLD % (root_org_id, hold_id, epoch)
