"""Reads manifests as kubectl does, and reports every error of every file at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError

from tenantplane.core.apis.plan import Plan
from tenantplane.core.apis.tenant import Tenant
from tenantplane.core.errors import FieldError, InvalidInput, Unprocessable

Kind = Literal["Plan", "Tenant"]
_MODELS: dict[str, type[BaseModel]] = {"Plan": Plan, "Tenant": Tenant}


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whose shape is right. `spec` is the document's own: the registry takes it as it is."""

    kind: Kind
    name: str
    spec: dict[str, Any]
    source: str


def read(path: Path) -> list[Manifest]:
    """Plans first, then tenants with umbrellas before their orgs.

    Raises InvalidInput where there is nothing to read, Unprocessable with all bad fields.
    """
    files = sorted(path.glob("*.y*ml")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise InvalidInput(
            f"{path} has no manifests.", hint="Name a .yaml file or a folder of them."
        )
    manifests: list[Manifest] = []
    faults: list[FieldError] = []
    for file in files:
        for source, document in _documents(file):
            found = _manifest(source, document)
            if isinstance(found, Manifest):
                manifests.append(found)
            else:
                faults.extend(found)
    if faults:
        raise Unprocessable(f"{path} has errors: {len(faults)}.", errors=tuple(faults))
    return _ordered(manifests)


def _documents(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(file.read_text()))
    except yaml.YAMLError as error:
        raise InvalidInput(f"{file} is not YAML: {error}.") from None
    for number, document in enumerate(documents, 1):
        if document is not None:
            yield (str(file) if len(documents) == 1 else f"{file}#{number}"), document


def _manifest(source: str, document: Any) -> Manifest | list[FieldError]:
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind not in _MODELS:
        return [FieldError(source, f"kind {kind!r} is not one of {', '.join(_MODELS)}")]
    try:
        _MODELS[kind].model_validate(document)
    except ValidationError as error:
        return [
            FieldError(f"{source}: {'.'.join(map(str, e['loc']))}", _told(e["type"], e["msg"]))
            for e in error.errors(include_url=False)
        ]
    name = document["metadata"].get("name")
    if not isinstance(name, str) or not name:
        return [FieldError(f"{source}: metadata.name", "is missing")]
    return Manifest(kind, name, document["spec"], source)


def _told(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown field: check its spelling, or remove it"
    return message


def _ordered(manifests: list[Manifest]) -> list[Manifest]:
    parents = {m.name: m.spec.get("parent") for m in manifests if m.kind == "Tenant"}

    def depth(name: str | None) -> int:
        seen: set[str] = set()
        while name in parents and name not in seen:
            seen.add(name)
            name = parents[name]
        return len(seen)

    return sorted(manifests, key=lambda m: (m.kind != "Plan", depth(m.name), m.name))
