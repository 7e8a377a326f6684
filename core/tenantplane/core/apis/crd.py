"""CustomResourceDefinitions out of the pydantic models: `make crds`.

Kubernetes wants structural schemas (apiextensions.k8s.io/v1): no $ref, no anyOf with types, no
title, a type everywhere. CEL rules travel in the models' `json_schema_extra`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from tenantplane.core.apis.common import API_VERSION, GROUP, VERSION
from tenantplane.core.apis.conditions import PlanStatus, TenantStatus
from tenantplane.core.apis.plan import PlanSpec
from tenantplane.core.apis.tenant import TenantSpec
from tenantplane.core.ids import ORG_ID_PATTERN

_READY = '.status.conditions[?(@.type=="Ready")]'
_DROPPED = {"title", "additionalProperties", "$defs"}

Schema = dict[str, Any]


def structural(model: type[BaseModel]) -> Schema:
    """The model's schema in structural form. Raises ValueError where a field is not described."""
    schema = model.model_json_schema(by_alias=True)
    return _structural(schema, schema.get("$defs", {}), model.__name__)


def _structural(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        siblings = {key: value for key, value in node.items() if key != "$ref"}
        return _structural({**target, **siblings}, definitions, path)
    if "anyOf" in node:  # Optional[X]: absence says what null would
        (variant,) = (v for v in node["anyOf"] if v.get("type") != "null")
        siblings = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return _structural({**variant, **siblings}, definitions, path)
    result: Schema = {key: value for key, value in node.items() if key not in _DROPPED}
    if "const" in result:
        result["enum"] = [result.pop("const")]
    if result.get("format") == "date-time":
        result["type"] = "string"
    if "properties" in result:
        result["properties"] = {
            name: _described(_structural(child, definitions, f"{path}.{name}"), f"{path}.{name}")
            for name, child in result["properties"].items()
        }
    if "items" in result:
        result["items"] = _structural(result["items"], definitions, f"{path}[]")
    return result


def _described(schema: Schema, path: str) -> Schema:
    if not schema.get("description"):
        raise ValueError(f"{path} has no description: kubectl explain would say nothing")
    return schema


def _column(name: str, path: str, kind: str = "string", description: str = "") -> Schema:
    return {"name": name, "type": kind, "jsonPath": path, "description": description or name}


def _definition(
    kind: str,
    plural: str,
    short: str,
    spec: Schema,
    status: Schema,
    columns: list[Schema],
    rules: list[Schema],
) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            # Uninstalling the chart must not take every tenant of the cluster with it.
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["tenantplane"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": f"{kind} ({API_VERSION}).",
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string", "description": API_VERSION},
                                "kind": {"type": "string", "description": kind},
                                "metadata": {"type": "object"},
                                "spec": spec,
                                "status": status,
                            },
                            "x-kubernetes-validations": rules,
                        }
                    },
                }
            ],
        },
    }


def tenant_definition() -> Schema:
    return _definition(
        "Tenant",
        "tenants",
        "tpt",
        structural(TenantSpec),
        structural(TenantStatus),
        [
            _column("Plan", ".spec.plan"),
            _column("Isolation", ".spec.isolation"),
            _column("Plane", ".status.plane"),
            _column("Ready", f"{_READY}.status"),
            _column("Reason", f"{_READY}.reason"),
            _column("Age", ".metadata.creationTimestamp", "date"),
        ],
        [
            {
                "rule": f"self.metadata.name.matches('{ORG_ID_PATTERN}')",
                "message": "metadata.name is the org_id: a DNS label of at most 40 characters "
                "that begins with a letter",
            }
        ],
    )


def plan_definition() -> Schema:
    return _definition(
        "Plan",
        "plans",
        "tpp",
        structural(PlanSpec),
        structural(PlanStatus),
        [
            _column("Tenants", ".status.tenants", "integer"),
            _column("Ready", f"{_READY}.status"),
            _column("Reason", f"{_READY}.reason"),
            _column("Age", ".metadata.creationTimestamp", "date"),
        ],
        [],
    )


def rendered() -> dict[str, str]:
    """File name → YAML text."""
    header = "# Generated by `make crds` from core/tenantplane/core/apis; do not edit.\n"
    return {
        f"{GROUP}_{definition['spec']['names']['plural']}.yaml": header
        + yaml.safe_dump(definition, sort_keys=False, width=100)
        for definition in (tenant_definition(), plan_definition())
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Write the CustomResourceDefinitions.",
        epilog="example: python -m tenantplane.core.apis.crd --check crds "
        "charts/tenantplane-crds/templates",
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument(
        "--check", action="store_true", help="only compare; 1 where a file is stale"
    )
    arguments = parser.parse_args()
    stale = []
    wanted = [
        (folder / name, text) for folder in arguments.folders for name, text in rendered().items()
    ]
    for path, text in wanted:
        if path.exists() and path.read_text() == text:
            continue
        stale.append(str(path))
        if not arguments.check:
            path.write_text(text)
    if arguments.check and stale:
        print(f"stale: {', '.join(stale)}; run `make crds`", file=sys.stderr)
        return 1
    print(f"{len(stale)} written" if stale else "fresh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
