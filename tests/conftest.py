"""Fixtures are plugins in tests/fixtures, one per part; a plugin is loaded where it is there."""

from __future__ import annotations

from pathlib import Path

pytest_plugins = [
    f"tests.fixtures.{path.stem}" for path in sorted(Path(__file__).parent.glob("fixtures/*.py"))
]
