"""The real cluster, brought up by `make up`'s own code, with pods of the built image."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.cluster import provider
from tools.release import Release
from tools.up import run

EXAMPLES = Path("examples/first")


@pytest.fixture(scope="session")
def release(pytestconfig: pytest.Config) -> Iterator[Release]:
    """`make up` under the name of --cluster-name; taken down afterwards unless --keep-cluster."""
    name = str(pytestconfig.getoption("--cluster-name"))
    made = Release(name)
    try:
        assert asyncio.run(run(made, EXAMPLES, None, None)) == 0
        yield made
    finally:
        if not pytestconfig.getoption("--keep-cluster"):
            provider.down(name)
