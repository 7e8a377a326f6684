"""The Lua library as one text: the files of lua/ in a fixed order, and their version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from tenantplane.core.resources import folder

# A file may use what stands in those before it.
FILES = (
    "library.lua",
    "arguments.lua",
    "money.lua",
    "kept.lua",
    "epoch.lua",
    "window.lua",
    "root.lua",
    "account.lua",
    "view.lua",
    "calls.lua",
    "hold.lua",
    "levels.lua",
    "plan.lua",
    "sight.lua",
    "admit.lua",
    "settle.lua",
    "install.lua",
    "readings.lua",
    "register.lua",
)
_VERSION_MARK = "@VERSION@"


@dataclass(frozen=True, slots=True)
class Library:
    source: str
    version: str  # SHA-256 of the joined files; tp_version answers it


@cache
def load() -> Library:
    """Raises FileNotFoundError where the installation is broken."""
    lua = folder("lua")
    joined = "\n".join((lua / name).read_text(encoding="utf-8") for name in FILES)
    version = hashlib.sha256(joined.encode()).hexdigest()
    return Library(source=joined.replace(_VERSION_MARK, version), version=version)
