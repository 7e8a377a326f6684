"""The kernel settings that a node changes for the whole machine, and their way back.

The kubelet sets the first five when it starts; ``ip_forward`` is set with ``EGRESS=1``.
What they were before the first cluster is kept until the last one goes.
"""

from __future__ import annotations

import json
from pathlib import Path

from tools.cluster.commands import write
from tools.cluster.settings import STATE_ROOT

CHANGED = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
)

_RECORD = STATE_ROOT / "kernel-settings.json"


def remember() -> None:
    """Keep the present values unless a cluster's ``up`` has kept them before."""
    if not _RECORD.exists():
        values = {
            name: path.read_text().strip() for name in CHANGED if (path := _path(name)).exists()
        }
        write(_RECORD, json.dumps(values))


def restore() -> None:
    """Put the values back that ``remember`` kept."""
    if _RECORD.exists():
        for name, value in json.loads(_RECORD.read_text()).items():
            if _path(name).read_text().strip() != value:
                _path(name).write_text(value)
        _RECORD.unlink()


def _path(name: str) -> Path:
    return Path("/proc/sys") / name
