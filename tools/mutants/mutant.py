"""What a mutant is: one line of defence, weakened in a database or in a running process."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Edit = Literal["constant", "value", "function", "sql_file"]
# Stand for the role of that kind in the SQL of a mutant: each database has a prefix of its own.
ROLE_MARK = "@{}@"


@dataclass(frozen=True, slots=True)
class CodeEdit:
    """`name` of `module` becomes `text`: a string constant, a value (an expression over the module's
    own names), a function (its source), or a file of the SQL folder that the module reads."""

    edit: Edit
    module: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """`apply` and `undo` are statements for an administrator inside the databases of kind
    `database`; `edit` is for this process. `killers` are parts of test ids, the likeliest first.
    `excluded` says why it is not run, where nothing could tell it from what it was made of."""

    id: str
    weakens: str
    killers: tuple[str, ...]
    database: Literal["control", "data", ""] = ""
    apply: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    edit: CodeEdit | None = None
    excluded: str = ""

    @property
    def group(self) -> str:
        """The line of defence that it is of: what its id begins with, and for filters the plane."""
        kind, _, rest = self.id.partition(":")
        return f"{kind}:{rest.partition('.')[0]}" if kind == "filter" else kind


@dataclass(frozen=True, slots=True)
class Verdict:
    """`killed_by` is the test whose assertion failed; `broke` are tests that failed otherwise, in
    their set-up or by an unexpected error, which does not count; `seconds` is what it took."""

    mutant: str
    killed_by: str | None
    ran: int
    broke: tuple[str, ...] = field(default=())
    seconds: float = 0.0


def written(mutants: Iterable[Mutant], path: Path) -> None:
    path.write_text(json.dumps([asdict(mutant) for mutant in mutants]), encoding="utf-8")


def read(path: Path) -> list[Mutant]:
    return [_mutant(row) for row in json.loads(path.read_text(encoding="utf-8"))]


def _mutant(row: dict[str, object]) -> Mutant:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    edit = values.pop("edit")
    made = CodeEdit(**edit) if isinstance(edit, dict) else None
    return Mutant(**values, edit=made)  # type: ignore[arg-type]


def role(kind: str) -> str:
    """The mark that stands for a role in a mutant's SQL."""
    return ROLE_MARK.format(kind)
