"""Files that travel with the code: lua/ and crds/ (repository root, or inside the wheel)."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
_REPOSITORY = _HERE.parents[2]


def folder(name: str) -> Path:
    """The folder `lua` or `crds`. Raises FileNotFoundError where the installation is broken."""
    for candidate in (_HERE / name, _REPOSITORY / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"{name}/ is in neither the wheel nor the repository")
