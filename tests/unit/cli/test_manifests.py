from __future__ import annotations

from pathlib import Path

import pytest

from tenantplane.cli import manifests
from tenantplane.core.errors import InvalidInput, Unprocessable

PLAN = """
apiVersion: tenantplane.io/v1alpha1
kind: Plan
metadata: {name: starter}
spec: {}
"""


def _tenant(name: str, spec: str) -> str:
    return f"""
apiVersion: tenantplane.io/v1alpha1
kind: Tenant
metadata: {{name: {name}}}
spec: {{plan: starter, {spec}}}
"""


def test_plans_come_first_and_umbrellas_before_their_orgs(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "---".join([_tenant("aaa", "parent: mid"), _tenant("mid", "parent: top"), PLAN])
    )
    (tmp_path / "z.yml").write_text(_tenant("top", ""))
    assert [m.name for m in manifests.read(tmp_path)] == ["starter", "top", "mid", "aaa"]


def test_a_circle_of_parents_is_the_registrys_to_refuse(tmp_path: Path) -> None:
    file = tmp_path / "circle.yaml"
    file.write_text(_tenant("a", "parent: b") + "---" + _tenant("b", "parent: a"))
    assert {m.name for m in manifests.read(file)} == {"a", "b"}


def test_every_error_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(_tenant("a", "plann: x, suspended: perhaps"))
    (tmp_path / "b.yaml").write_text("kind: Pod")
    with pytest.raises(Unprocessable) as refused:
        manifests.read(tmp_path)
    paths = [error.path for error in refused.value.errors]
    assert len(paths) == 3
    assert any(path.endswith("spec.plann") for path in paths)
    assert any(path.endswith("spec.suspended") for path in paths)
    assert any("b.yaml" in path for path in paths)


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="has no manifests"):
        manifests.read(tmp_path)
    with pytest.raises(InvalidInput, match="has no manifests"):
        manifests.read(tmp_path / "missing.yaml")


def test_what_is_no_yaml_is_said(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("a: [")
    with pytest.raises(InvalidInput, match="is not YAML"):
        manifests.read(file)
