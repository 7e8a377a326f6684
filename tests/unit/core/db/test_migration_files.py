from __future__ import annotations

from pathlib import Path

import pytest

from tenantplane.core.db.migrate import TENANCY_MIGRATIONS, read_migrations
from tenantplane.core.errors import ConfigurationRefused


def folder(path: Path, **files: str) -> Path:
    for name, sql in files.items():
        (path / f"{name}.sql").write_text(sql)
    return path


def test_files_are_read_in_order(tmp_path: Path) -> None:
    read = read_migrations(
        folder(tmp_path, **{"0002_b": "-- b\nSELECT 2", "0001_a": "-- a\nSELECT 1"}), "plane"
    )
    assert [m.name for m in read] == ["plane/0001_a", "plane/0002_b"]
    assert [m.revision for m in read] == ["plane/0001", "plane/0002"]


def test_the_tenancy_schema_is_there() -> None:
    assert read_migrations(TENANCY_MIGRATIONS, "tp")[0].name == "tp/0001_tenancy"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"0002_a": "-- a"}, "out of order"),
        ({"0001_a": "-- a", "0001_b": "-- b"}, "out of order"),
        ({"0001_a": "-- a", "0003_b": "-- b"}, "out of order"),
        ({"first": "-- a"}, "out of order"),
        ({"0001_a": "SELECT 1"}, "does not say why"),
        ({}, "no migrations"),
    ],
)
def test_a_folder_out_of_form_is_refused(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigurationRefused, match=message):
        read_migrations(folder(tmp_path, **files), "plane")
