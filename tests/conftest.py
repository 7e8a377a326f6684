"""Fixtures are plugins in tests/fixtures, one per part."""

from __future__ import annotations

from pathlib import Path

import pytest

# Plugins import each other: all are announced before the first is imported.
pytest.register_assert_rewrite("tests.fixtures")

pytest_plugins = [
    f"tests.fixtures.{path.stem}" for path in sorted(Path(__file__).parent.glob("fixtures/*.py"))
]
