"""SQL of this package stands in .sql files under their names; nothing is built from strings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import LiteralString

_FOLDER = Path(__file__).parent / "sql"


@cache
def statement(name: LiteralString) -> LiteralString:
    """The text of `sql/<name>.sql`. Raises FileNotFoundError where the installation is broken."""
    # A file of the package is as literal as a string in it: no input ever reaches it.
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
