"""Mutants of the filters that stand in SQL beside the policies: each `org_id = …`, dropped."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Final

from tools.mutants.mutant import CodeEdit, Mutant

KILLERS: Final = {
    "dataplane": ("test_filters_alone.py", "test_shelves_alone.py::*neighbours_shelf"),
    "controlplane": ("test_control_filters_alone.py",),
}
# The parameter stays, so that the statement still takes what it is given.
_FILTER: Final = re.compile(
    r"(?<![\w.])(?:(?P<alias>\w+)\.)?(?P<column>org_id|root_org_id|holder)\s*=\s*"
    r"(?P<value>ANY\s*\(%\((?P<list>\w+)\)s\)|%\((?P<one>\w+)\)s)"
)
_READS_OR_CHANGES: Final = re.compile(r"\b(SELECT|UPDATE|DELETE)\b")
_PACKAGES: Final = ("tenantplane.dataplane", "tenantplane.controlplane")


def statement_mutants() -> Iterator[Mutant]:
    """Of every string constant and .sql file of both planes that filters by org."""
    for package in _PACKAGES:
        plane = package.rpartition(".")[2]
        for module in modules_of(package):
            yield from _constants(module, plane)
            if hasattr(module, "_FOLDER") and hasattr(module, "statement"):
                yield from _files(module, plane)


def modules_of(package: str) -> Iterator[ModuleType]:
    """All modules below a (namespace) package, in the order of their names."""
    root = importlib.import_module(package)
    names = {
        ".".join((package, *found.relative_to(path).with_suffix("").parts))
        for path in root.__path__
        for found in Path(path).rglob("*.py")
        if found.stem != "__main__"
    }
    for name in sorted(names):
        module = _imported(name)
        if module is not None:
            yield module


@cache
def _imported(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except Exception as broken:  # noqa: BLE001  (a module may do anything when imported)
        # Such a plane does not start, and other tests say so.
        print(f"not looked at: {name} ({type(broken).__name__})", file=sys.stderr)
        return None


def _constants(module: ModuleType, plane: str) -> Iterator[Mutant]:
    source = Path(module.__file__ or "").read_text(encoding="utf-8")
    for name, value in list(vars(module).items()):
        # Only where it is made, not where it is imported.
        if not isinstance(value, str) or not re.search(rf"^{name}\b.*=", source, re.M):
            continue
        for number, (what, text) in enumerate(_without_each_filter(value)):
            yield _mutant(plane, "constant", module, name, number, what, text)


def _files(module: ModuleType, plane: str) -> Iterator[Mutant]:
    for path in sorted(Path(module._FOLDER).glob("*.sql")):
        for number, (what, text) in enumerate(_without_each_filter(path.read_text("utf-8"))):
            yield _mutant(plane, "sql_file", module, path.name, number, what, text)


def _mutant(
    plane: str, edit: str, module: ModuleType, name: str, number: int, what: str, text: str
) -> Mutant:
    short = module.__name__.removeprefix("tenantplane.")
    # The verbs of its own folder come first.
    folder = short.split(".")[1]
    return Mutant(
        f"filter:{short}.{name}.{number}",
        f"without: {what}",
        (f"{KILLERS[plane][0]}::*[{folder} ", *KILLERS[plane]),
        edit=CodeEdit(edit, module.__name__, name, text),  # type: ignore[arg-type]
    )


def _without_each_filter(statement: str) -> Iterator[tuple[str, str]]:
    if not _READS_OR_CHANGES.search(statement):
        return
    for found in _FILTER.finditer(statement):
        parameter = found["list"] or found["one"]
        cast = "text[]" if found["list"] else "text"
        free = f"(%({parameter})s::{cast} IS NOT NULL)"
        yield found[0], statement[: found.start()] + free + statement[found.end() :]
