"""`make requirements` and `make faults`: rows of the docs beside the tests that prove them."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
SOURCES = {
    "requirements": (
        ROOT / "docs/requirements.md",
        re.compile(r"^\| (R\d+|A\d) \| (.+?) \|", re.M),
    ),
    "faults": (ROOT / "docs/threat-model.md", re.compile(r"^\| (F\d+) \| (.+?) \|", re.M)),
}


def rows(kind: str) -> dict[str, str]:
    """Id → text, in the order of the document."""
    path, pattern = SOURCES[kind]
    found = {match[1]: match[2] for match in pattern.finditer(path.read_text())}
    return dict(sorted(found.items(), key=lambda row: (row[0][0], int(row[0][1:]))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=SOURCES)
    kind: str = parser.parse_args().kind
    evidence_file = ROOT / "build/evidence.json"
    if not evidence_file.exists():
        print("No results yet: run `make test` first.", file=sys.stderr)
        return 1
    evidence = json.loads(evidence_file.read_text())
    table = Table(title=f"{kind} and the tests that prove them", show_lines=False)
    for column in ("id", "what", "tests", "last result"):
        table.add_column(column, overflow="fold")
    proven = 0
    for identifier, text in rows(kind).items():
        tests = {t: r["outcome"] for t, r in evidence.items() if identifier in r["ids"]}
        outcome = "-" if not tests else "failed" if set(tests.values()) - {"passed"} else "passed"
        proven += outcome == "passed"
        names = "\n".join(sorted(test.split("/", 1)[1] for test in tests)) or "none yet"
        table.add_row(identifier, text[:90], names, outcome)
    console = Console()
    console.print(table)
    console.print(f"{proven} of {len(rows(kind))} {kind} have passing tests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
