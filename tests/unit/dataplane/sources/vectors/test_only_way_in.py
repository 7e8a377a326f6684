"""No module but the library's own names its tables: whoever wants a chunk asks a Library."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[5]
VECTORS = ROOT / "dataplane/tenantplane/dataplane/sources/vectors"
MIGRATIONS = ROOT / "dataplane/tenantplane/dataplane/db/migrations"
TABLES = re.compile(r"\bdataplane\.(chunk\w*|document|library|shelf)\b(?!\.)")
# Python names its modules in the same way: `tenantplane.dataplane.sources…`.
IMPORTED = re.compile(r"tenantplane\.dataplane\.\w+")


def naming(folder: Path) -> set[str]:
    found = set()
    for path in folder.rglob("*"):
        if path.suffix in (".py", ".sql") and MIGRATIONS not in path.parents:
            text = IMPORTED.sub("", path.read_text(encoding="utf-8"))
            if TABLES.search(text):
                found.add(str(path.relative_to(ROOT)))
    return found


def test_only_the_library_names_its_tables() -> None:
    everywhere = set().union(
        *(naming(ROOT / part) for part in ("core", "dataplane", "controlplane", "operator", "cli"))
    )
    inside = naming(VECTORS)
    assert len(inside) > 10
    assert everywhere == inside
